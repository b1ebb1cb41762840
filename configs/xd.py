"""XD-Violence, SemVAD as the paper describes it, ten seeds.

    python main.py --config xd --vmap-seeds 10

Needs the store features/xd. Cost: 3,090 steps of 128 rows a seed, meant for one large GPU; not run
by us. The paper's figures: frame AP 84.66 (SD 1.26, best 86.55) over ten seeds, average mAP 31.15
(1.29).
"""

from semvad_jax.config import Config, DataConfig

config = Config(data=DataConfig(dataset="xd"))

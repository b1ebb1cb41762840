"""UCF-Crime, SemVAD as the paper describes it, ten seeds.

    python main.py --config ucf --vmap-seeds 10

Needs the store features/ucf. Cost: 1,125 steps of 128 rows a seed, meant for one large GPU; not run
by us. The paper's figures: frame AUC 87.21 (SD 0.46, best 88.48) over ten seeds, average mAP 8.1
(1.19).
"""

from semvad_jax.config import Config, DataConfig

config = Config(data=DataConfig(dataset="ucf"))

"""Real surveillance-style videos, fights or not, through the offline stand-ins.

    python featurize/run.py --dataset folder --videos FIGHTS --vision efficientnet-lite0 \\
        --captioner tags --text minilm-l6 --out features/fights
    python main.py --config fights --vmap-seeds 10

FIGHTS holds videos.csv and videos/*.mp4; any other folder of normal videos and others will do.
Cost: 3,000 snippets in four minutes on one CPU core; 64 steps, ten seeds in half a minute
on two. Last step, frame AUC over ten seeds: binary head 41.98 (SD 1.50), class head 46.70 (1.30):
with these features nothing is detected (docs/studies.md tells more).
"""

from semvad_jax.config import Config, DataConfig, EvalConfig, ModelConfig, TrainConfig

config = Config(
    data=DataConfig(dataset="fights", store="features/fights", val_fraction=0.1),
    model=ModelConfig(dim=64, length=24),
    train=TrainConfig(batch=32, epochs=16, lr=5e-4, milestones=(13,)),
    eval=EvalConfig(every=0, crop=0),
)

"""UCF-Crime in part, a real image and a real caption stream: 300 videos, 66 of them test.

    python featurize/run.py --dataset ucf --videos UCF_C3D --vision npy:UCF_C3D/features \\
        --rows even --captioner file:CAPTIONS --text minilm-l6 --out features/ucf_c3d
    python main.py --config ucf_c3d --vmap-seeds 10

UCF_C3D holds videos.csv and C3D features in 32 equal parts a video, CAPTIONS SwinBERT's captions; a
user brings both. Cost: a minute for the store; 100 steps of 64 rows, ten seeds in three minutes on
two CPU cores. Last step, head chosen on val, frame AUC over ten seeds: preset paper (class) 65.82
(SD 3.49); --set model.preset=best (binary) 72.99 (1.76). How the schedule was chosen:
docs/studies.md.
"""

from semvad_jax.config import Config, DataConfig, EvalConfig, ModelConfig, TrainConfig

config = Config(
    data=DataConfig(dataset="ucf", store="features/ucf_c3d", val_fraction=0.1),
    model=ModelConfig(dim=64, length=32),
    train=TrainConfig(batch=64, epochs=50, lr=5e-4, milestones=()),
    eval=EvalConfig(every=0, crop=0),
)

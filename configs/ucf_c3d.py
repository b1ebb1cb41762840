"""UCF-Crime in part: 300 videos with C3D features in 32 equal parts, and SwinBERT captions."""

from semvad_jax.config import Config, DataConfig, EvalConfig, ModelConfig, TrainConfig

config = Config(
    data=DataConfig(dataset="ucf", store="features/ucf_c3d", val_fraction=0.1),
    model=ModelConfig(dim=64, length=32),
    train=TrainConfig(batch=64, epochs=100, lr=1e-3, milestones=()),
    eval=EvalConfig(every=0, crop=0),
)

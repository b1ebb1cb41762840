"""One file a model, each with `init(cfg, key)` and `apply(cfg, params, frozen, batch)`; `--model
NAME` picks the file.
"""

import importlib
from types import ModuleType

from semvad_jax.config import Config


def model(cfg: Config) -> ModuleType:
    """The model's file, `semvad_jax/models/NAME.py`."""
    return importlib.import_module(f"semvad_jax.models.{cfg.model.name}")

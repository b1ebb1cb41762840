"""One file a model, each with `init(cfg, key)` and `apply(cfg, params, frozen, batch)`; `--model
NAME` picks the file.
"""

import importlib
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType

import jax
from flax import nnx
from jaxtyping import PyTree

from semvad_jax.config import Config, check_model
from semvad_jax.types import Batch, Frozen, Outputs


def model(cfg: Config) -> ModuleType:
    """The model's file, `semvad_jax/models/NAME.py`; its name is one that `config` knows, since it
    may come from somebody else's RUN.
    """
    check_model(cfg.model.name)
    return importlib.import_module(f"semvad_jax.models.{cfg.model.name}")


def functions(make: Callable[[Config, bool, nnx.Rngs], nnx.Module]) -> tuple[Callable, Callable]:
    """A model's `init` and `apply` from its module, `make(cfg, prompted, rngs)`, called with
    (frozen, batch, key); `key` is None but in training.

    `prompted`: whether class vectors come from CLIP's text tower under a learned prompt, as they do
    where `frozen` carries one.
    """

    @lru_cache
    def structure(cfg: Config, prompted: bool) -> nnx.GraphDef:
        return nnx.split(nnx.eval_shape(lambda: make(cfg, prompted, nnx.Rngs(0))))[0]

    def init(cfg: Config, key: jax.Array) -> PyTree:
        """Parameters of one seed, a plain nested dict of float32 arrays."""
        module = make(cfg, cfg.data.text_tower > 0, nnx.Rngs(key))
        return nnx.to_pure_dict(nnx.state(module, nnx.Param))

    def apply(
        cfg: Config,
        params: PyTree,
        frozen: Frozen,
        batch: Batch,
        *,
        state: PyTree | None = None,
        key: jax.Array | None = None,
        train: bool = False,
    ) -> Outputs:
        """Scores of a batch. In training `key` draws what dropout leaves out; models with batch
        statistics will read `state`, none of the present ones does.
        """
        module = nnx.merge(structure(cfg, frozen.text_tower is not None), params)
        return module(frozen, batch, key if train else None)

    return init, apply

"""One file a model, each with `init(cfg, key)` and `apply(cfg, params, frozen, batch)`; `--model
NAME` picks the file.

A model may have, besides, `init_state(cfg)` (batch statistics), `tested(cfg, params, state)` (its
state after an evaluation, where that leaves something), `loss` (in place of `losses.total`),
`finish(cfg, scores)` (what its program does to a test video's scores), `prepare(cfg, data, frozen)`
(what is made once of the train videos, for every seed) and `TORCH` (its program's names of its
weights, for `convert`).
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from types import ModuleType

import jax
from flax import nnx
from jaxtyping import PyTree

from semvad_jax.config import Config, check_model
from semvad_jax.types import Batch, Frozen, Outputs, TrainData


class Statistic(nnx.Variable):
    """A running statistic of a batch normalisation: kept beside the parameters, never trained."""


def model(cfg: Config) -> ModuleType:
    """The model's file, `semvad_jax/models/NAME.py`; its name is one that `config` knows, since it
    may come from somebody else's RUN.
    """
    check_model(cfg.model.name)
    return importlib.import_module(f"semvad_jax.models.{cfg.model.name}")


def functions(make: Callable[[Config, bool, nnx.Rngs], nnx.Module]) -> tuple[Callable, ...]:
    """A model's `init`, `init_state` and `apply` from its module, `make(cfg, prompted, rngs)`,
    called with (frozen, batch, key, train).

    `prompted`: whether class vectors come from CLIP's text tower under a learned prompt, as they do
    where `frozen` carries one. A model without batch statistics leaves `init_state` out.
    """

    @lru_cache
    def structure(cfg: Config, prompted: bool) -> nnx.GraphDef:
        return nnx.split(nnx.eval_shape(lambda: make(cfg, prompted, nnx.Rngs(0))))[0]

    def init(cfg: Config, key: jax.Array) -> PyTree:
        """Parameters of one seed, a plain nested dict of float32 arrays."""
        module = make(cfg, cfg.data.text_tower > 0, nnx.Rngs(key))
        return nnx.to_pure_dict(nnx.state(module, nnx.Param))

    def init_state(cfg: Config) -> PyTree:
        """Batch statistics before the first step, the same for every seed."""
        module = make(cfg, cfg.data.text_tower > 0, nnx.Rngs(0))
        return nnx.to_pure_dict(nnx.state(module, Statistic))

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
        """Scores of a batch. In training `key` draws what dropout leaves out (nothing, without
        one), batch statistics are the batch's, and `Outputs.state` holds the running ones after it;
        otherwise these are read from `state`.
        """
        graph = structure(cfg, frozen.text_tower is not None)
        module = nnx.merge(graph, params if state is None else _joined(params, state))
        outputs = module(frozen, batch, key if train else None, train)
        if state is None:
            return outputs
        return replace(outputs, state=nnx.to_pure_dict(nnx.state(module, Statistic)))

    return init, init_state, apply


def _joined(params: PyTree, state: PyTree) -> PyTree:
    """Two nested dicts as one."""
    if not (isinstance(params, Mapping) and isinstance(state, Mapping)):
        return params if state is None else state
    return {k: _joined(params.get(k), state.get(k)) for k in dict.fromkeys([*params, *state])}


def init_state(cfg: Config) -> PyTree | None:
    """The batch statistics of a config's model before the first step; None where it has none."""
    own = getattr(model(cfg), "init_state", None)
    return None if own is None else own(cfg)


def tested(cfg: Config, params: PyTree, state: PyTree | None) -> PyTree | None:
    """The state of a config's model after an evaluation by these weights."""
    own = getattr(model(cfg), "tested", None)
    return state if own is None else own(cfg, params, state)


def prepared(cfg: Config, data: TrainData, frozen: Frozen) -> Frozen:
    """`frozen`, with what a config's model makes of the training rows before the first step."""
    prepare = getattr(model(cfg), "prepare", None)
    return frozen if prepare is None else prepare(cfg, data, frozen)


def kept(cfg: Config, oddity: str) -> bool:
    """Whether a model does what its public program oddly does; `model.fixes` turns it off."""
    fixes = cfg.model.fixes
    return fixes is not True and oddity not in (fixes or ())

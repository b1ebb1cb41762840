"""The plainest MIL scorer: two layers on a snippet's own features, binary loss only. What
everything else must beat.

Where the store has captions the visual and the caption vector are put side by side.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import PyTree

from semvad_jax.config import Config
from semvad_jax.layers import Linear
from semvad_jax.types import Batch, Frozen, Outputs


class TwoLayers(nnx.Module):
    def __init__(self, cfg: Config, rngs: nnx.Rngs):
        self.hidden = Linear(cfg.data.feature_dim + cfg.data.caption_dim, cfg.model.dim, rngs)
        self.score = Linear(cfg.model.dim, 1, rngs)

    def __call__(self, batch: Batch) -> Outputs:
        x = jnp.concatenate([batch.visual, batch.captions], axis=-1).astype(jnp.float32)
        return Outputs(binary_logits=self.score(jax.nn.relu(self.hidden(x)))[..., 0])


@lru_cache
def _structure(cfg: Config) -> nnx.GraphDef:
    return nnx.split(nnx.eval_shape(lambda: TwoLayers(cfg, nnx.Rngs(0))))[0]


def init(cfg: Config, key: jax.Array) -> PyTree:
    """Parameters of one seed, a plain nested dict of float32 arrays."""
    return nnx.to_pure_dict(nnx.state(TwoLayers(cfg, nnx.Rngs(key)), nnx.Param))


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
    """Binary logits alone; `frozen`, `state`, `key` and `train` change nothing."""
    return nnx.merge(_structure(cfg), params)(batch)

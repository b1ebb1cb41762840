"""The plainest MIL scorer: two layers on a snippet's own features, binary loss only. What
everything else must beat.

Where the store has captions the visual and the caption vector are put side by side.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from semvad_jax.config import Config
from semvad_jax.models import functions
from semvad_jax.models.layers import Linear
from semvad_jax.types import Batch, Frozen, Outputs


class TwoLayers(nnx.Module):
    def __init__(self, cfg: Config, prompted: bool, rngs: nnx.Rngs):
        self.hidden = Linear(cfg.data.feature_dim + cfg.data.caption_dim, cfg.model.dim, rngs)
        self.score = Linear(cfg.model.dim, 1, rngs)

    def __call__(self, frozen: Frozen, batch: Batch) -> Outputs:
        x = jnp.concatenate([batch.visual, batch.captions], axis=-1).astype(jnp.float32)
        return Outputs(binary_logits=self.score(jax.nn.relu(self.hidden(x)))[..., 0])


init, apply = functions(TwoLayers)

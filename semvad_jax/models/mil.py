"""The plainest MIL scorer: two layers on a snippet's own features, binary loss only. What
everything else must beat.

It reads the visual vector, the caption's, or both side by side (`model.inputs`).
"""

import jax
import jax.numpy as jnp
from flax import nnx

from semvad_jax.config import Config
from semvad_jax.models import functions
from semvad_jax.models.layers import Linear, dropout, scaled
from semvad_jax.types import Batch, Frozen, Outputs


class TwoLayers(nnx.Module):
    def __init__(self, cfg: Config, prompted: bool, rngs: nnx.Rngs):
        m, d = cfg.model, cfg.data
        self.visual, self.captions = m.inputs != "captions", m.inputs != "visual"
        inputs = d.feature_dim * self.visual + d.caption_dim * self.captions
        self.hidden = Linear(inputs, m.dim, rngs)
        self.score = Linear(m.dim, 1, rngs)
        self.dropout, self.norm = m.dropout, m.input_norm

    def __call__(self, frozen: Frozen, batch: Batch, key: jax.Array | None, train: bool) -> Outputs:
        streams = [batch.visual] * self.visual + [batch.captions] * self.captions
        streams = [stream.astype(jnp.float32) for stream in streams]
        streams = [scaled(stream) for stream in streams] if self.norm else streams
        hidden = jax.nn.relu(self.hidden(jnp.concatenate(streams, axis=-1)))
        return Outputs(binary_logits=self.score(dropout(hidden, self.dropout, key))[..., 0])


init, _, apply = functions(TwoLayers)

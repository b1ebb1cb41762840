"""Fusing the caption stream into the visual stream (paper §3.3): attention, then the conv mixer."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from semvad_jax.config import ModelConfig
from semvad_jax.models.layers import Conv, LayerNorm, Linear


class CrossAttention(nnx.Module):
    """Every snippet's visual feature gathers the captions of the whole video: queries f, keys and
    values t (QKK).

    One head, no projections of its own; with `model.qkv` (Table 13) the values get a Linear. Then
    post-norm feed-forward.
    """

    def __init__(self, model: ModelConfig, rngs: nnx.Rngs):
        dim = model.dim
        self.value = Linear(dim, dim, rngs) if model.qkv else None
        self.gather = over_snippets if model.attention_over == "snippets" else over_channels
        self.residual = model.residual
        self.gate = Linear(2 * dim, dim, rngs) if model.residual == "gated" else None
        self.rate = nnx.Param(jnp.zeros(())) if model.near else None
        self.norm1 = LayerNorm(dim)
        self.up = Linear(dim, dim // 2, rngs)
        self.down = Linear(dim // 2, dim, rngs)
        self.norm2 = None if model.shared_norm else LayerNorm(dim)

    def __call__(
        self, f: Float[Array, "B T D"], t: Float[Array, "B T D"], length: Int[Array, " B"]
    ) -> Float[Array, "B T D"]:
        value = t if self.value is None else self.value(t)
        if self.rate is None:
            attended = self.gather(f, t, value, length)
        else:
            attended = over_snippets(f, t, value, length, jax.nn.softplus(self.rate[...]))
        x = self.norm1(self._with_residual(f, t, attended))
        return (self.norm2 or self.norm1)(x + self.down(jax.nn.relu(self.up(x))))

    def _with_residual(
        self, f: Float[Array, "B T D"], t: Float[Array, "B T D"], attended: Float[Array, "B T D"]
    ) -> Float[Array, "B T D"]:
        """What the attended captions are added to: f (the paper), t (the release), or, of our own,
        both, or f with a learned share of the snippet's own caption against them.
        """
        if self.gate is not None:
            share = jax.nn.sigmoid(self.gate(jnp.concatenate([f, t], axis=-1)))
            return f + share * t + (1 - share) * attended
        if self.residual == "both":
            return f + t + attended
        return (f if self.residual == "visual" else t) + attended


def over_snippets(
    f: Float[Array, "B T D"],
    t: Float[Array, "B T D"],
    value: Float[Array, "B T D"],
    length: Int[Array, " B"],
    rate: Float[Array, ""] | None = None,
) -> Float[Array, "B T D"]:
    """The paper's attention: each snippet weighs all real snippets of its video.

    With a `rate`, which the paper has not, a snippet's logit falls by it for each snippet between.
    """
    valid = (
        jnp.arange(t.shape[1]) < jnp.maximum(length, 1)[:, None]
    )  # an empty video must not give NaN
    logits = (f @ t.swapaxes(1, 2)).astype(jnp.float32) * f.shape[-1] ** -0.5
    if rate is not None:
        place = jnp.arange(t.shape[1])
        logits = logits - rate * jnp.abs(place[:, None] - place).astype(jnp.float32)
    weights = jax.nn.softmax(jnp.where(valid[:, None, :], logits, -jnp.inf), axis=-1)
    return weights.astype(t.dtype) @ value


def over_channels(
    f: Float[Array, "B T D"],
    t: Float[Array, "B T D"],
    value: Float[Array, "B T D"],
    length: Int[Array, " B"],
) -> Float[Array, "B T D"]:
    """The authors' program: each channel of f weighs the channels of t by their course over time.

    Kept for parity: the sum runs over all T slots, where padding is L_v's and L_c's bias; so a
    model is tied to its T, by which the logits are scaled, and `length` has no say.
    """
    logits = (f.swapaxes(1, 2) @ t).astype(jnp.float32) * f.shape[1] ** -0.5
    weights = jax.nn.softmax(logits, axis=-1).astype(t.dtype)
    return value @ weights.swapaxes(1, 2)


class ConvMixer(nnx.Module):
    """The paper's 2×3 convolution over (modality, time), as a width-3 convolution over the two
    streams' channels.
    """

    def __init__(self, dim: int, rngs: nnx.Rngs):
        self.conv = Conv(3, 2 * dim, dim, rngs)
        self.out = Linear(dim, dim, rngs)

    def __call__(self, f: Float[Array, "B T D"], t: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        return self.out(jax.nn.gelu(self.conv(jnp.concatenate([f, t], axis=-1)), approximate=False))

"""The building blocks. Parameters are float32 and are cast to their input's dtype where they are
used.

Initial values follow PyTorch's defaults, which the published numbers were trained from.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers
from jaxtyping import Array, Bool, Float, Int

from semvad_jax.config import Config
from semvad_jax.losses import l2_norm
from semvad_jax.losses import unit as unit  # of the losses too, which know no model
from semvad_jax.models import Statistic
from semvad_jax.types import Batch

WIDEST, NARROWED = 2048, 512  # what `narrow` leaves alone, and what it makes of the rest
DROPOUT = 1  # what a step's key is folded with, so that σ-greedy draws something else


def torch_uniform(fan_in: int) -> Callable:
    """U(±1/√fan_in), PyTorch's default for weight and bias of Linear and Conv."""
    bound = max(fan_in, 1) ** -0.5  # 0 inputs: the sizes of a config that has met no store
    return lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return x * jax.nn.sigmoid(1.702 * x)


def scaled(x: Float[Array, "... N"]) -> Float[Array, "... N"]:
    """Every row with mean 0 and variance 1: features of any length on one scale."""
    return layer_norm(x, jnp.ones(x.shape[-1]), jnp.zeros(x.shape[-1]))


def dropout(x: Float[Array, "..."], rate: float, key: jax.Array | None) -> Float[Array, "..."]:
    """x with a share of `rate` of its values 0 and the others as much larger; x without a key."""
    if key is None or not rate:
        return x
    keep = jax.random.bernoulli(jax.random.fold_in(key, DROPOUT), 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)


def keys_of(key: jax.Array | None, count: int) -> list[jax.Array | None]:
    """A key for each of `count` draws; None for each without a key."""
    return [None] * count if key is None else [jax.random.fold_in(key, n) for n in range(count)]


def present(batch: Batch, train: bool) -> Bool[Array, "B T"]:
    """The snippets that a public program has before it: one video at a time in a test, and in
    training a batch that is cut to its longest video, so that shorter ones have padding. Rows that
    fill a batch (weight 0) make it no longer.
    """
    longest = jnp.where(batch.weight > 0, batch.length, 0).max()
    length = longest if train else batch.length[:, None]
    return jnp.arange(batch.visual.shape[-2]) < jnp.broadcast_to(length, (batch.length.shape[0], 1))


def masked(x: Float[Array, "B *K T F"], there: Bool[Array, "B T"]) -> Float[Array, "B *K T F"]:
    """x, and 0 where there is no snippet."""
    size, steps = there.shape
    return jnp.where(there.reshape(size, *[1] * (x.ndim - 3), steps, 1), x, 0)


def xavier_conv(key: jax.Array, shape: tuple[int, ...]) -> Float[Array, "size I O"]:
    """Xavier's uniform initial values for a convolution's kernel, its size counted in both fans."""
    size, inputs, outputs = shape
    bound = (6 / (size * (inputs + outputs))) ** 0.5
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def product(x: Float[Array, "... I"], kernel: Float[Array, "I O"]) -> Float[Array, "... O"]:
    """x @ kernel over flattened rows: its gradient for the kernel is then one plain product too."""
    rows = x.reshape(-1, x.shape[-1]) @ kernel.astype(x.dtype)
    return rows.reshape(*x.shape[:-1], kernel.shape[-1])


def activations(cfg: Config) -> jnp.dtype:
    """What activations are computed in: `train.dtype`, float32 before a device has decided."""
    return jnp.dtype("float32" if cfg.train.dtype == "auto" else cfg.train.dtype)


def remat(cfg: Config) -> Callable[[Callable], Callable]:
    """What wraps a part of a model whose inner values are computed again for the gradients, where
    `train.remat` is blocks; nothing, otherwise.
    """
    return jax.checkpoint if cfg.train.remat == "blocks" else lambda part: part


class Linear(nnx.Module):
    def __init__(
        self,
        inputs: int,
        outputs: int,
        rngs: nnx.Rngs,
        kernel_init: Callable | None = None,
        bias_init: Callable | None = None,
        bias: bool = True,
    ):
        init = torch_uniform(inputs)
        self.kernel = nnx.Param((kernel_init or init)(rngs.params(), (inputs, outputs)))
        self.bias = nnx.Param((bias_init or init)(rngs.params(), (outputs,))) if bias else None

    def __call__(self, x: Float[Array, "... I"]) -> Float[Array, "... O"]:
        y = product(x, self.kernel[...])
        return y if self.bias is None else y + self.bias.astype(x.dtype)


def narrow(features: int, rngs: nnx.Rngs) -> tuple[Linear | None, int]:
    """A learned Linear to 512 for features wider than the public programs take (2048), None for
    others; and the width after it.
    """
    if features <= WIDEST:
        return None, features
    return Linear(features, NARROWED, rngs), NARROWED


def visual_of(batch: Batch, narrower: Linear | None) -> Float[Array, "B *K T F"]:
    """A batch's visual rows in float32, at the width that `narrow` left."""
    x = batch.visual.astype(jnp.float32)
    return x if narrower is None else narrower(x)


def by_crop(x: Float[Array, "B *K T F"]) -> Float[Array, "B K T F"]:
    """x with an axis of crops, of 1 where crops are not trained together."""
    return x if x.ndim == 4 else x[:, None]


def adapter(inputs: int, outputs: int, rngs: nnx.Rngs) -> Linear | None:
    """A Linear between two sizes; None where they are equal, or where the first is not known yet
    (0) and taken to be.
    """
    return None if inputs in (0, outputs) else Linear(inputs, outputs, rngs)


class Scorer(nnx.Module):
    """The plainest scorer of a snippet: hidden values, ReLU, dropout in training, one logit."""

    def __init__(self, inputs: int, hidden: int, dropout: float, rngs: nnx.Rngs):
        self.hidden = Linear(inputs, hidden, rngs)
        self.score = Linear(hidden, 1, rngs)
        self.dropout = dropout

    def __call__(self, x: Float[Array, "... N"], key: jax.Array | None) -> Float[Array, "..."]:
        hidden = jax.nn.relu(self.hidden(x))
        return self.score(dropout(hidden, self.dropout, key))[..., 0]


class LayerNorm(nnx.Module):
    def __init__(self, size: int, epsilon: float = 1e-5):
        self.scale = nnx.Param(jnp.ones(size))
        self.bias = nnx.Param(jnp.zeros(size))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "... N"]) -> Float[Array, "... N"]:
        return layer_norm(x, self.scale[...], self.bias[...], self.epsilon)


def layer_norm(
    x: Float[Array, "... N"],
    scale: Float[Array, " N"],
    bias: Float[Array, " N"],
    epsilon: float = 1e-5,
) -> Float[Array, "... N"]:
    y = x.astype(jnp.float32)
    y = y - y.mean(-1, keepdims=True)
    y = y * jax.lax.rsqrt((y * y).mean(-1, keepdims=True) + epsilon)
    return (y * scale + bias).astype(x.dtype)


class WindowBlock(nnx.Module):
    """A pre-norm transformer block whose attention sees only its own window of snippets.

    The public programs attend over all T under a block-diagonal mask; the windows as a batch give
    the same numbers for T/window times less work. Padding is not masked, as there.
    """

    def __init__(self, width: int, heads: int, window: int, rngs: nnx.Rngs):
        self.heads, self.window = heads, window
        self.norm1 = LayerNorm(width)
        # as torch's MultiheadAttention: Xavier over the stacked queries, keys and values, zero
        # biases
        self.qkv = Linear(width, 3 * width, rngs, initializers.xavier_uniform(), initializers.zeros)
        self.out = Linear(width, width, rngs, bias_init=initializers.zeros)
        self.norm2 = LayerNorm(width)
        self.up = Linear(width, 4 * width, rngs)
        self.down = Linear(4 * width, width, rngs)

    def __call__(self, x: Float[Array, "B T W"]) -> Float[Array, "B T W"]:
        windows = x.reshape(-1, self.window, x.shape[-1])
        windows = windows + self.out(attend(self.qkv(self.norm1(windows)), self.heads))
        windows = windows + self.down(quick_gelu(self.up(self.norm2(windows))))
        return windows.reshape(x.shape)


def attend(
    qkv: Float[Array, "N T W3"], heads: int, mask: Bool[Array, "T T"] | None = None
) -> Float[Array, "N T W"]:
    """Scaled dot-product self-attention over stacked queries, keys and values."""
    n, t, w = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    q, k, v = (part.reshape(n, t, heads, w // heads) for part in jnp.split(qkv, 3, axis=-1))
    logits = jnp.einsum("nqhd,nkhd->nhqk", q, k).astype(jnp.float32) * (w // heads) ** -0.5
    if mask is not None:
        logits = jnp.where(mask, logits, -jnp.inf)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("nhqk,nkhd->nqhd", weights, v).reshape(n, t, w)


class Conv(nnx.Module):
    """A convolution over time with zero padding: one matrix product, then shifts.

    `before` of the other `size` − 1 snippets that it sees lie before a snippet, half of them where
    it is not given. Under `vmap` over seeds a convolution with a kernel per seed becomes a grouped
    convolution, slow on GPUs and a source of collectives across devices; matrix products stay
    matrix products.
    """

    def __init__(
        self,
        size: int,
        inputs: int,
        outputs: int,
        rngs: nnx.Rngs,
        *,
        dilation: int = 1,
        before: int | None = None,
        bias: bool = True,
        kernel_init: Callable | None = None,
        bias_init: Callable | None = None,
    ):
        init = torch_uniform(size * inputs)
        self.dilation = dilation
        self.before = size // 2 if before is None else before
        kernel = (kernel_init or init)(rngs.params(), (size, inputs, outputs))
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param((bias_init or init)(rngs.params(), (outputs,))) if bias else None

    def __call__(self, x: Float[Array, "*N T I"]) -> Float[Array, "*N T O"]:
        size, inputs, outputs = self.kernel.shape
        steps, step = x.shape[-2], self.dilation
        stacked = self.kernel.swapaxes(0, 1).reshape(inputs, size * outputs)
        taps = product(x, stacked)
        before, after = self.before * step, (size - 1 - self.before) * step
        taps = jnp.pad(taps, [(0, 0)] * (x.ndim - 2) + [(before, after), (0, 0)])
        shifted = [
            taps[..., i * step : i * step + steps, i * outputs : (i + 1) * outputs]
            for i in range(size)
        ]
        return sum(
            shifted[1:], shifted[0] if self.bias is None else shifted[0] + self.bias.astype(x.dtype)
        )


class BatchNorm(nnx.Module):
    """Channels with mean 0 and variance 1: in training over the batch, all crops and all time,
    padding included; otherwise by the running statistics of training, which move a tenth of the way
    at each step (as torch's).
    """

    def __init__(self, size: int, scale: float = 1.0):
        self.scale = nnx.Param(jnp.full(size, scale))
        self.bias = nnx.Param(jnp.zeros(size))
        self.mean = Statistic(jnp.zeros(size))
        self.var = Statistic(jnp.ones(size))

    def __call__(self, x: Float[Array, "*N T I"], train: bool) -> Float[Array, "*N T I"]:
        mean, var = self.mean[...], self.var[...]
        if train:
            rows = x.astype(jnp.float32).reshape(-1, x.shape[-1])
            mean = rows.mean(0)
            var = jnp.square(rows - mean).mean(0)
            unbiased = var * (len(rows) / max(len(rows) - 1, 1))
            for kept, now in ((self.mean, mean), (self.var, unbiased)):
                kept[...] = 0.9 * kept[...] + 0.1 * jax.lax.stop_gradient(now)
        scale = jax.lax.rsqrt(var + 1e-5) * self.scale[...]
        return ((x - mean) * scale + self.bias[...]).astype(x.dtype)


class GroupNorm(nnx.Module):
    """Eight groups of channels with mean 0 and variance 1 over a video's snippets that are there;
    fewer groups where 8 does not divide the channels.
    """

    def __init__(self, size: int):
        self.scale = nnx.Param(jnp.ones(size))
        self.bias = nnx.Param(jnp.zeros(size))
        self.groups = math.gcd(size, 8)

    def __call__(
        self, x: Float[Array, "N T I"], there: Bool[Array, "N T"]
    ) -> Float[Array, "N T I"]:
        n, steps, size = x.shape
        rows = x.astype(jnp.float32).reshape(n, steps, self.groups, -1)
        weight = there[:, :, None, None].astype(jnp.float32)
        count = jnp.maximum(weight.sum((1, 3), keepdims=True) * rows.shape[-1], 1)
        rows = rows - (rows * weight).sum((1, 3), keepdims=True) / count
        variance = (jnp.square(rows) * weight).sum((1, 3), keepdims=True) / count
        rows = (rows * jax.lax.rsqrt(variance + 1e-5)).reshape(n, steps, size)
        return (rows * self.scale[...] + self.bias[...]).astype(x.dtype)


class GraphConv(nnx.Module):
    """A(XW) + residual(X); the residual is a width-5 convolution where the size changes, else X."""

    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs):
        xavier = initializers.xavier_uniform()
        self.kernel = nnx.Param(xavier(rngs.params(), (inputs, outputs)))
        self.residual = Conv(5, inputs, outputs, rngs) if inputs != outputs else None

    def __call__(
        self, x: Float[Array, "B T I"], adjacency: Float[Array, "#B T T"]
    ) -> Float[Array, "B T O"]:
        mixed = adjacency.astype(x.dtype) @ product(x, self.kernel[...])
        return mixed + (x if self.residual is None else self.residual(x))


def similarity_adjacency(
    x: Float[Array, "B T W"], length: Int[Array, " B"]
) -> Float[Array, "B T T"]:
    """Row softmax, over the valid snippets, of their cosines; cosines up to 0.7 count as 0, not as
    −∞ (kept for parity).
    """
    x = x.astype(jnp.float32)
    norm = l2_norm(x)
    lengths = norm * norm.swapaxes(1, 2)
    # a snippet of zeros is like none, with gradient 0 (not NaN)
    cosine = (x @ x.swapaxes(1, 2)) / jnp.where(lengths > 1e-20, lengths, 1)
    return over_valid(jnp.where(cosine > 0.7, cosine, 0), length)


def over_valid(logits: Float[Array, "B T T"], length: Int[Array, " B"]) -> Float[Array, "B T T"]:
    """Row softmax over the valid snippets, of logits in [0, 1], which need no shift; else 0."""
    valid = jnp.arange(logits.shape[1]) < length[:, None]
    pairs = valid[:, :, None] & valid[:, None, :]
    weights = jnp.where(pairs, jnp.exp(logits), 0)
    return weights / jnp.maximum(weights.sum(-1, keepdims=True), 1)


def distance_adjacency(steps: int) -> Float[Array, "1 T T"]:
    """exp(−|i−j|/e), not normalised and over the padding too (kept for parity)."""
    i = jnp.arange(steps, dtype=jnp.float32)
    return jnp.exp(-jnp.abs(i[:, None] - i[None, :]) / math.e)[None]


class BinaryHead(nnx.Module):
    """One anomaly logit a snippet, computed in float32 at the end so that scores do not tie under
    bfloat16.
    """

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.up = Linear(width, 4 * width, rngs)
        self.down = Linear(4 * width, width, rngs)
        self.score = Linear(width, 1, rngs)

    def __call__(self, x: Float[Array, "B T W"]) -> Float[Array, "B T"]:
        return self.score((x + self.down(quick_gelu(self.up(x)))).astype(jnp.float32))[..., 0]

"""MGFN (Chen et al. 2023) as its public PyTorch program trains it: blocks that glance over the
whole video, then blocks that focus on a few snippets, and a contrast between the lengths of
features.

Beside its features a snippet brings their length. Crops of a video are trained together, as in
RTFM.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from semvad_jax.config import Config
from semvad_jax.losses import cross_entropy, l2_norm
from semvad_jax.models import functions, kept
from semvad_jax.models.layers import (
    BatchNorm,
    Conv,
    LayerNorm,
    Linear,
    by_crop,
    keys_of,
    masked,
    narrow,
    present,
    torch_uniform,
    visual_of,
)
from semvad_jax.models.rtfm import for_choice, largest
from semvad_jax.types import Batch, Frozen, Outputs

HEAD = 64  # channels of an attention head
FOCUS = 5  # snippets that a focus block sees
LENGTH_SHARE = 0.1  # of the layer that reads a snippet's length
MARGIN = 200.0
CONTRAST, BETWEEN, SPARSE, SMOOTH = 1e-3, 1e-3, 8e-3, 8e-4  # weights of the loss


def _torch_names() -> dict[str, str]:
    block, between = "stages.{}.0.layers.{}", "stages.{}.1"
    names = {
        "tokens": "to_tokens",
        "lengths": "to_mag",
        "norm": "to_logits.0",
        "score": "fc",
        "stages.{}.between.norm.scale": f"{between}.0.g",
        "stages.{}.between.norm.bias": f"{between}.0.b",
        "stages.{}.between.out": f"{between}.1",
    }
    ours = "stages.{}.blocks.{}"
    names |= {
        f"{ours}.near": f"{block}.0",
        f"{ours}.feed.norm.scale": f"{block}.2.0.g",
        f"{ours}.feed.norm.bias": f"{block}.2.0.b",
        f"{ours}.feed.up": f"{block}.2.1",
        f"{ours}.feed.down": f"{block}.2.4",
        f"{ours}.glance.norm.scale": f"{block}.1.norm.g",
        f"{ours}.glance.norm.bias": f"{block}.1.norm.b",
        f"{ours}.glance.qkv": f"{block}.1.to_qkv",
        f"{ours}.glance.out": f"{block}.1.to_out",
        f"{ours}.focus.norm": f"{block}.1.norm",
        f"{ours}.focus.value": f"{block}.1.to_v",
        f"{ours}.focus.spread": f"{block}.1.rel_pos",
        f"{ours}.focus.out": f"{block}.1.to_out",
    }
    return names


TORCH = _torch_names()


class OwnNorm(nnx.Module):
    """The program's own layer normalisation: over the standard deviation and an epsilon outside."""

    def __init__(self, size: int):
        self.scale = nnx.Param(jnp.ones(size))
        self.bias = nnx.Param(jnp.zeros(size))

    def __call__(self, x: Float[Array, "N T D"]) -> Float[Array, "N T D"]:
        centred = x - x.mean(-1, keepdims=True)
        deviation = l2_norm(centred) / x.shape[-1] ** 0.5
        return centred / (deviation + 1e-5) * self.scale[...] + self.bias[...]


class Glance(nnx.Module):
    """Attention over the whole video."""

    def __init__(self, dim: int, rngs: nnx.Rngs):
        self.norm = OwnNorm(dim)
        self.heads = max(dim // HEAD, 1)
        inner = self.heads * min(HEAD, dim)
        self.qkv = Linear(dim, 3 * inner, rngs, bias=False)
        self.out = Linear(inner, dim, rngs)

    def __call__(
        self, x: Float[Array, "N T D"], there: Bool[Array, "N T"], train: bool
    ) -> Float[Array, "N T D"]:
        rows, steps, _ = x.shape
        parts = self.qkv(self.norm(x)).reshape(rows, steps, 3, self.heads, -1)
        q, k, v = (parts[:, :, n] for n in range(3))
        logits = jnp.einsum("nqhd,nkhd->nhqk", q, k) * q.shape[-1] ** -0.5
        weights = jax.nn.softmax(jnp.where(there[:, None, None], logits, -jnp.inf))
        return self.out(jnp.einsum("nhqk,nkhd->nqhd", weights, v).reshape(rows, steps, -1))


class Spread(nnx.Module):
    """Each head sums the nearest snippets with weights of its own, the same for all its channels;
    of the channels (c, head) the head changes fastest.
    """

    def __init__(self, heads: int, rngs: nnx.Rngs):
        init = torch_uniform(FOCUS)
        self.kernel = nnx.Param(init(rngs.params(), (FOCUS, heads)))
        self.bias = nnx.Param(init(rngs.params(), (heads,)))

    def __call__(self, x: Float[Array, "N T D"]) -> Float[Array, "N T D"]:
        rows, steps, dim = x.shape
        heads = self.bias.shape[0]
        split = x.reshape(rows, steps, dim // heads, heads)
        wide = jnp.pad(split, ((0, 0), (FOCUS // 2, FOCUS // 2), (0, 0), (0, 0)))
        taps = [wide[:, k : k + steps] * self.kernel[k] for k in range(FOCUS)]
        return sum(taps, self.bias[...]).reshape(x.shape)


class Focus(nnx.Module):
    """A few snippets around each."""

    def __init__(self, dim: int, rngs: nnx.Rngs):
        heads = max(dim // HEAD, 1)
        self.norm = BatchNorm(dim)
        self.value = Linear(dim, dim, rngs, bias=False)
        self.spread = Spread(heads, rngs)
        self.out = Linear(dim, dim, rngs)

    def __call__(
        self, x: Float[Array, "N T D"], there: Bool[Array, "N T"], train: bool
    ) -> Float[Array, "N T D"]:
        return self.out(self.spread(masked(self.value(self.norm(x, train)), there)))


class Feed(nnx.Module):
    def __init__(self, dim: int, rngs: nnx.Rngs):
        self.norm = OwnNorm(dim)
        self.up, self.down = Linear(dim, 4 * dim, rngs), Linear(4 * dim, dim, rngs)

    def __call__(self, x: Float[Array, "N T D"]) -> Float[Array, "N T D"]:
        return self.down(jax.nn.gelu(self.up(self.norm(x)), approximate=False))


class Block(nnx.Module):
    def __init__(self, dim: int, glances: bool, rngs: nnx.Rngs):
        self.near = Conv(3, dim, dim, rngs)
        self.glance = Glance(dim, rngs) if glances else None
        self.focus = None if glances else Focus(dim, rngs)
        self.feed = Feed(dim, rngs)

    def __call__(
        self, x: Float[Array, "N T D"], there: Bool[Array, "N T"], train: bool
    ) -> Float[Array, "N T D"]:
        x = x + self.near(masked(x, there))
        attention = self.focus if self.glance is None else self.glance
        assert attention is not None
        x = x + attention(x, there, train)
        return x + self.feed(x)


class Between(nnx.Module):
    """From one stage's width to the next one's."""

    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs):
        self.norm = OwnNorm(inputs)
        self.out = Linear(inputs, outputs, rngs)

    def __call__(self, x: Float[Array, "N T I"]) -> Float[Array, "N T O"]:
        return self.out(self.norm(x))


class Stage(nnx.Module):
    def __init__(self, dim: int, depth: int, after: int | None, glances: bool, rngs: nnx.Rngs):
        self.blocks = nnx.List([Block(dim, glances, rngs) for _ in range(depth)])
        self.between = None if after is None else Between(dim, after, rngs)

    def __call__(
        self, x: Float[Array, "N T I"], there: Bool[Array, "N T"], train: bool
    ) -> Float[Array, "N T O"]:
        for block in self.blocks:
            x = block(x, there, train)
        return x if self.between is None else self.between(x)


class MGFN(nnx.Module):
    def __init__(self, cfg: Config, prompted: bool, rngs: nnx.Rngs):
        m = cfg.model
        self.narrow, features = narrow(cfg.data.feature_dim, rngs)
        widths = m.hidden
        self.tokens = Conv(3, features, widths[0], rngs)
        self.lengths = Conv(3, 1, widths[0], rngs)
        self.stages = nnx.List(
            [
                Stage(width, depth, after, place == 0, rngs)
                for place, (width, depth, after) in enumerate(
                    zip(widths, m.depths, [*widths[1:], None], strict=True)
                )
            ]
        )
        self.norm = LayerNorm(widths[-1])
        self.score = Linear(widths[-1], 1, rngs)
        self.rate = m.dropout

    def __call__(self, frozen: Frozen, batch: Batch, key: jax.Array | None, train: bool) -> Outputs:
        there = present(batch, train)
        x = by_crop(masked(visual_of(batch, self.narrow), there))
        size, crops, steps, _ = x.shape
        rows, seen = x.reshape(size * crops, steps, -1), jnp.repeat(there, crops, 0)
        rows = self.tokens(rows) + LENGTH_SHARE * self.lengths(l2_norm(rows))
        for stage in self.stages:
            rows = stage(rows, seen, train)
        rows = self.norm(rows)
        logits = self.score(rows)[..., 0].reshape(size, crops, steps)
        if not train:
            return Outputs(binary_logits=logits.mean(1))
        features = rows.reshape(size, crops, steps, -1)
        return for_choice(logits, features, self.rate, keys_of(key, 2))


init, init_state, apply = functions(MGFN)


def picked(
    scores: Float[Array, " T"], features: Float[Array, "K T D"], selector: Float[Array, " T"]
) -> tuple[Float[Array, ""], Float[Array, "K P"]]:
    """Of one video: the mean score of the `largest` snippets, and the sums of absolute values of
    each crop's, in this order.
    """
    picks = largest(features, selector)
    # a product adds up in blocks: the contrast takes small differences of these large sums
    return scores[picks].mean(), jnp.abs(features[:, picks]) @ jnp.ones(features.shape[-1])


def contrast(one: Float[Array, "R P"], other: Float[Array, "R P"], apart: bool) -> Float[Array, ""]:
    """Mean over pairs of rows: the squared distance of two vectors, or, where they are to be apart,
    the square of what it falls short of 200. torch's distance adds 1e-6 to every difference.
    """
    distance = l2_norm(one - other + 1e-6)[:, 0]
    return jnp.square(jax.nn.relu(MARGIN - distance) if apart else distance).mean()


def loss(
    cfg: Config,
    outputs: Outputs,
    batch: Batch,
    *,
    key: jax.Array | None = None,
    step: Array | int = 0,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The program's parts. Rows to be alike are the first and the second half of all crops of all
    videos, crop by crop (`crop_pairs`); fixed, each video's neighbour in its class. Sparsity is of
    the normal videos' scores (`sparse_normal`); fixed, of the anomalous ones'.
    """
    own = outputs.for_loss
    assert own is not None
    scores, sums = jax.vmap(picked)(own["scores"], own["features"], own["selector"])
    normal, abnormal = jnp.split(sums, 2)  # [n, K, P]

    def alike(rows: Float[Array, "V K P"]) -> Float[Array, ""]:
        if kept(cfg, "crop_pairs"):
            by_crop = rows.swapaxes(0, 1).reshape(-1, rows.shape[-1])
            half = len(by_crop) // 2
            return contrast(by_crop[half : 2 * half], by_crop[:half], apart=False)
        others = jnp.roll(rows, 1, axis=0)
        return contrast(*(x.reshape(-1, x.shape[-1]) for x in (rows, others)), apart=False)

    flat = (x.swapaxes(0, 1).reshape(-1, x.shape[-1]) for x in (abnormal, normal))
    halves = jnp.split(own["scores"], 2)
    sparse = halves[0] if kept(cfg, "sparse_normal") else halves[1]
    parts = {
        "bce": cross_entropy(scores, 1 - batch.labels[:, 0]).mean(),
        "between": CONTRAST * BETWEEN * contrast(*flat, apart=True),
        "normal": CONTRAST * alike(normal),
        "abnormal": CONTRAST * alike(abnormal),
        "sparse": SPARSE * l2_norm(sparse.reshape(1, -1))[0, 0],
        "smooth": SMOOTH * jnp.square(jnp.diff(own["scores"])).sum(),
    }
    return sum(parts.values(), jnp.zeros(())), parts

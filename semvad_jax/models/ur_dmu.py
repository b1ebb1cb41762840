"""UR-DMU (Zhou et al. 2023) as its public PyTorch program trains it: two memories, of what is
normal and of what is not, read by every snippet of a two-layer transformer.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from semvad_jax.config import Config
from semvad_jax.losses import PICK_EVERY, cross_entropy, l2_norm, unit
from semvad_jax.models import functions, kept
from semvad_jax.models.layers import (
    Conv,
    LayerNorm,
    Linear,
    dropout,
    keys_of,
    masked,
    narrow,
    present,
    torch_uniform,
    visual_of,
)
from semvad_jax.types import Batch, Frozen, Outputs

TORCH = {
    "embed": "embedding.conv_1.0",
    "blocks.{}.attention.norm": "selfatt.layers.{}.0.norm",
    "blocks.{}.attention.qkvt": "selfatt.layers.{}.0.fn.to_qkv",
    "blocks.{}.attention.out": "selfatt.layers.{}.0.fn.to_out.0",
    "blocks.{}.feed.norm": "selfatt.layers.{}.1.norm",
    "blocks.{}.feed.up": "selfatt.layers.{}.1.fn.net.0",
    "blocks.{}.feed.down": "selfatt.layers.{}.1.fn.net.3",
    "abnormal.entries": "Amemory.memory_block",
    "normal.entries": "Nmemory.memory_block",
    "mean": "encoder_mu.0",
    "log_variance": "encoder_var.0",
    "hidden": "cls_head.mlp.0",
    "score": "cls_head.mlp.2",
}
MARGIN = 100.0  # between what abnormal snippets read from memory and what normal ones do
WEIGHTS = {  # of the loss
    "mil": 1.0,
    "abnormal_in_abnormal": 0.1,
    "abnormal_in_normal": 0.1,
    "normal_in_normal": 0.1,
    "normal_in_abnormal": 0.1,
    "triplet": 0.1,
    "kl": 0.001,
    "distance": 0.0001,
}


class Attention(nnx.Module):
    """Half of every head attends by likeness, the other half by nearness in time alone."""

    def __init__(self, cfg: Config, rngs: nnx.Rngs):
        m = cfg.model
        self.norm = LayerNorm(m.dim)
        self.qkvt = Linear(m.dim, 4 * m.heads * m.key_dim, rngs, bias=False)
        self.out = Linear(2 * m.heads * m.key_dim, m.dim, rngs)
        self.heads, self.rate = m.heads, m.dropout
        self.by_columns = kept(cfg, "column_norm")

    def __call__(
        self, x: Float[Array, "B T D"], there: Bool[Array, "B T"], key: jax.Array | None
    ) -> Float[Array, "B T D"]:
        size, steps, _ = x.shape
        parts = self.qkvt(self.norm(x)).reshape(size, steps, 4, self.heads, -1)
        q, k, v, t = (parts[:, :, n] for n in range(4))
        logits = jnp.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5
        alike = jax.nn.softmax(jnp.where(there[:, None, None], logits, -jnp.inf))
        both = jnp.concatenate(
            [
                jnp.einsum("bhqk,bkhd->bqhd", alike, v),
                jnp.einsum("bqk,bkhd->bqhd", nearness(there, self.by_columns), t),
            ],
            axis=-1,
        )
        return x + dropout(self.out(both.reshape(size, steps, -1)), self.rate, key)


def nearness(there: Bool[Array, "B T"], by_columns: bool) -> Float[Array, "B T T"]:
    """exp(−|i−j|/e) over the sum of column j, as the program has it; or of row i."""
    place = jnp.arange(there.shape[1], dtype=jnp.float32)
    near = jnp.exp(-jnp.abs(place[:, None] - place) / math.e)
    near = jnp.where(there[:, None, :] & there[:, :, None], near, 0)
    return near / jnp.maximum(near.sum(1 if by_columns else 2, keepdims=True), 1)


class FeedForward(nnx.Module):
    def __init__(self, cfg: Config, rngs: nnx.Rngs):
        dim = cfg.model.dim
        self.norm = LayerNorm(dim)
        self.up, self.down = Linear(dim, dim, rngs), Linear(dim, dim, rngs)
        self.rate = cfg.model.dropout

    def __call__(
        self, x: Float[Array, "B T D"], keys: list[jax.Array | None]
    ) -> Float[Array, "B T D"]:
        hidden = jax.nn.gelu(self.up(self.norm(x)), approximate=False)
        hidden = dropout(hidden, self.rate, keys[0])
        return x + dropout(self.down(hidden), self.rate, keys[1])


class Block(nnx.Module):
    def __init__(self, cfg: Config, rngs: nnx.Rngs):
        self.attention = Attention(cfg, rngs)
        self.feed = FeedForward(cfg, rngs)

    def __call__(
        self, x: Float[Array, "B T D"], there: Bool[Array, "B T"], key: jax.Array | None
    ) -> Float[Array, "B T D"]:
        keys = keys_of(key, 3)
        return self.feed(self.attention(x, there, keys[0]), keys[1:])


class Memory(nnx.Module):
    """Entries that a snippet reads, each as far as it is like it; the shares do not add up to 1."""

    def __init__(self, cfg: Config, rngs: nnx.Rngs):
        m = cfg.model
        self.entries = nnx.Param(torch_uniform(m.dim)(rngs.params(), (m.slots, m.dim)))

    def __call__(
        self, x: Float[Array, "B T D"]
    ) -> tuple[Float[Array, "B T"], Float[Array, "B T D"]]:
        """How well a snippet is known, the mean of its largest shares; and what it reads."""
        entries = self.entries[...]
        shares = jax.nn.sigmoid(x @ entries.T * x.shape[-1] ** -0.5)
        largest, _ = jax.lax.top_k(shares, len(entries) // PICK_EVERY + 1)
        return largest.mean(-1), shares @ entries


class URDMU(nnx.Module):
    def __init__(self, cfg: Config, prompted: bool, rngs: nnx.Rngs):
        m = cfg.model
        self.narrow, features = narrow(cfg.data.feature_dim, rngs)
        self.embed = Conv(3, features, m.dim, rngs)
        self.blocks = nnx.List([Block(cfg, rngs) for _ in range(m.layers)])
        self.abnormal, self.normal = Memory(cfg, rngs), Memory(cfg, rngs)
        self.mean, self.log_variance = Linear(m.dim, m.dim, rngs), Linear(m.dim, m.dim, rngs)
        self.hidden = Linear(2 * m.dim, m.hidden[0], rngs)
        self.score = Linear(m.hidden[0], 1, rngs)

    def __call__(self, frozen: Frozen, batch: Batch, key: jax.Array | None, train: bool) -> Outputs:
        keys = keys_of(key, len(self.blocks) + 1)
        there = present(batch, train)
        x = jax.nn.relu(self.embed(masked(visual_of(batch, self.narrow), there)))
        for block, one in zip(self.blocks, keys, strict=False):
            x = block(x, there, one)
        in_abnormal, abnormal = self.abnormal(x)
        in_normal, normal = self.normal(x)
        read, mean = self.mean(abnormal), self.mean(normal)
        if not train:
            return Outputs(binary_logits=self.logits(x, read + mean))
        half = len(x) // 2  # only what normal videos read of what is normal is drawn
        log_variance = self.log_variance(normal[:half])
        drawn = mean[:half] + noise(keys[-1], log_variance.shape) * jnp.exp(log_variance / 2)
        known = {
            "features": x,
            "in_abnormal": in_abnormal,
            "in_normal": in_normal,
            "read": read,
            "mean": mean,
            "log_variance": log_variance,
            "drawn": drawn,
        }
        logits = self.logits(x, read + jnp.concatenate([drawn, mean[half:]]))
        return Outputs(binary_logits=logits, for_loss=known)

    def logits(self, x: Float[Array, "B T D"], read: Float[Array, "B T D"]) -> Float[Array, "B T"]:
        hidden = jax.nn.relu(self.hidden(jnp.concatenate([x, read], axis=-1)))
        return self.score(hidden)[..., 0]


init, _, apply = functions(URDMU)


def noise(key: jax.Array | None, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Standard normal draws; 0 without a key."""
    return jnp.zeros(shape) if key is None else jax.random.normal(key, shape)


class Video(NamedTuple):
    """What the loss reads of one video, normal or abnormal."""

    logits: Float[Array, " T"]
    features: Float[Array, "T D"]
    in_abnormal: Float[Array, " T"]
    in_normal: Float[Array, " T"]
    read: Float[Array, "T D"]  # from the memory of abnormal things


def picks(ranking: Float[Array, " T"]) -> Array:
    """The places of the ⌊T/16⌋ + 1 largest values."""
    return jax.lax.top_k(jax.lax.stop_gradient(ranking), len(ranking) // PICK_EVERY + 1)[1]


def at_largest(values: Float[Array, "T ..."], ranking: Float[Array, " T"]) -> Float[Array, "..."]:
    """The mean of `values` where `ranking` is largest."""
    return values[picks(ranking)].mean(0)


def pair(abnormal: Video, normal: Video, drawn: Float[Array, "T D"]) -> dict[str, Float[Array, ""]]:
    """The parts of one abnormal and one normal video, without their weights; `drawn` is what the
    normal one read of what is normal.
    """
    one = jnp.ones(())

    def scored(video: Video) -> Float[Array, ""]:
        return at_largest(jax.nn.sigmoid(video.logits), video.logits)

    anchor = unit(at_largest(normal.features, normal.in_normal))
    positive = unit(at_largest(abnormal.features, abnormal.in_normal))
    negative = unit(at_largest(abnormal.features, abnormal.in_abnormal))
    # torch's distance: 1e-6 is added to every difference
    near, far = (l2_norm(anchor - other + 1e-6)[0] for other in (positive, negative))
    away = l2_norm(at_largest(abnormal.read, abnormal.in_abnormal))[0]
    close = l2_norm(at_largest(drawn, normal.in_normal))[0]
    unknown = 1 - abnormal.in_normal
    of_videos = cross_entropy(scored(abnormal), one) + cross_entropy(scored(normal), 0 * one)
    return {
        "mil": of_videos / 2,
        "abnormal_in_abnormal": cross_entropy(
            at_largest(abnormal.in_abnormal, abnormal.in_abnormal), one
        ),
        "abnormal_in_normal": cross_entropy(at_largest(unknown, unknown), one),
        # of every snippet, not of the largest
        "normal_in_normal": -jnp.log(normal.in_normal).mean(),
        "normal_in_abnormal": -jnp.log1p(-normal.in_abnormal).mean(),
        "triplet": jax.nn.relu(near - far + 1),
        "distance": jax.nn.relu(MARGIN - away + close),
    }


def divergence(
    mean: Float[Array, "T D"], log_variance: Float[Array, "T D"], over_time: bool
) -> Float[Array, ""]:
    """KL from the standard normal of what one normal video reads: summed over time and a mean over
    channels, as the program has it; or the other way round.
    """
    terms = -0.5 * (1 + log_variance - jnp.square(mean) - jnp.exp(log_variance))
    return terms.sum(0 if over_time else 1).mean()


def loss(
    cfg: Config,
    outputs: Outputs,
    batch: Batch,
    *,
    key: jax.Array | None = None,
    step: Array | int = 0,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Mean over pairs: the i-th abnormal with the i-th normal video of a balanced batch, whose
    first half is normal.
    """
    own = outputs.for_loss
    assert own is not None
    names = ("features", "in_abnormal", "in_normal", "read")
    both = Video(outputs.binary_logits, *(own[name] for name in names))
    half = len(outputs.binary_logits) // 2
    normal, abnormal = (
        jax.tree.map(lambda x, s=s: x[s], both) for s in (slice(half), slice(half, None))
    )
    over_time = kept(cfg, "kl_over_time")
    parts = jax.vmap(pair)(abnormal, normal, own["drawn"])
    parts["kl"] = jax.vmap(divergence, (0, 0, None))(
        own["mean"][:half], own["log_variance"], over_time
    )
    parts = {name: weight * parts[name].mean() for name, weight in WEIGHTS.items()}
    return sum(parts.values(), jnp.zeros(())), parts

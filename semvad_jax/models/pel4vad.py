"""PEL4VAD (Pu et al. 2024) as its public PyTorch program trains it: an attention that sees all
snippets and the nearest ones, a causal convolution for the score, and class prompts that pooled
snippets are drawn to.

The prompts are the store's vectors of its class names, or those of a file (`model.prompts`). A
Linear of our own adapts prompts of another width than the pooled features have. Nothing in a test
reads them: the class side acts on the loss alone.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.nn import initializers
from jaxtyping import Array, Bool, Float, Int

from semvad_jax.config import Config
from semvad_jax.losses import PICK_EVERY, binary_mil
from semvad_jax.models import functions, kept
from semvad_jax.models.layers import (
    Conv,
    LayerNorm,
    Linear,
    adapter,
    dropout,
    keys_of,
    l2_norm,
    narrow,
    present,
    unit,
    visual_of,
    xavier_conv,
)
from semvad_jax.types import Batch, Frozen, Outputs

TORCH = {
    "attention.query": "self_attention.self_attn.q",
    "attention.key": "self_attention.self_attn.k",
    "attention.value": "self_attention.self_attn.v",
    "attention.out": "self_attention.self_attn.o",
    "attention.share": "self_attention.self_attn.alpha",
    "attention.rate": "self_attention.loc_adj.w",
    "attention.shift": "self_attention.loc_adj.b",
    "norm": "self_attention.norm",
    "first": "self_attention.linear1",
    "second": "self_attention.linear2",
    "score": "classifier",
    "log_scale": "logit_scale",
}
NEAR = 4  # snippets on each side that the near half of the attention sees
LOW = -1e9  # a logit that no softmax leaves anything of
SHARPNESS = 10.0  # of the pooling weights, and of the targets
SLIDING, BLOCK = 7, 8  # snippets in a mean of a test's scores


class Start(NamedTuple):
    """Initial values by data set."""

    rate: float
    shift: float
    temperature: float


STARTS = {"ucf": Start(0.6, 0.2, 0.09), "xd": Start(0.06, 0.02, 0.05)}


class Attention(nnx.Module):
    """One head, two maps: over all snippets and over the nearest, mixed by a learned share."""

    def __init__(self, cfg: Config, width: int, start: Start, rngs: nnx.Rngs):
        size, xavier = cfg.model.key_dim, initializers.xavier_uniform()
        self.query, self.key, self.value = (Linear(width, size, rngs, xavier) for _ in range(3))
        self.out = Linear(size, width, rngs, xavier)
        self.share = nnx.Param(jnp.zeros(()))
        self.rate = nnx.Param(jnp.full(1, start.rate))
        self.shift = nnx.Param(jnp.full(1, start.shift))
        self.power_norm = cfg.model.power_norm
        self.over_time = kept(cfg, "norm_over_time")

    def __call__(
        self, x: Float[Array, "B T F"], there: Bool[Array, "B T"], seen: Bool[Array, "B T"]
    ) -> Float[Array, "B T F"]:
        """`there` are the slots that the program has, `seen` those that are attended to."""
        place = jnp.arange(x.shape[1], dtype=jnp.float32)
        distance = place[:, None] - place
        near = jnp.exp(-jnp.abs(self.rate[...] * distance**2 - self.shift[...]))
        query, key = self.query(x), self.key(x)
        logits = query @ key.swapaxes(1, 2) * query.shape[-1] ** -0.5 + near
        logits = jnp.where(seen[:, None, :], logits, LOW)
        share = jax.nn.sigmoid(self.share[...])
        weights = share * jax.nn.softmax(logits)
        weights += (1 - share) * jax.nn.softmax(jnp.where(jnp.abs(distance) <= NEAR, logits, LOW))
        attended = jnp.where(there[..., None], weights @ self.value(x), 0)
        return self.out(self.scaled(attended) if self.power_norm else attended)

    def scaled(self, x: Float[Array, "B T N"]) -> Float[Array, "B T N"]:
        """Signed square roots, each channel's over the norm of its values at all times: the
        program's axis is time, padding included. Fixed: each snippet's over its own norm.
        """
        positive = jnp.where(x == 0, 1, jnp.abs(x))  # the root's slope at 0 is taken as 0
        x = jnp.where(x == 0, 0, jnp.sign(x) * jnp.sqrt(positive))
        norm = l2_norm(x.swapaxes(1, 2)).swapaxes(1, 2) if self.over_time else l2_norm(x)
        return x / jnp.maximum(norm, 1e-12)


class PEL4VAD(nnx.Module):
    def __init__(self, cfg: Config, prompted: bool, rngs: nnx.Rngs):
        m = cfg.model
        self.narrow, width = narrow(cfg.data.feature_dim, rngs)
        start = STARTS.get(cfg.data.dataset, STARTS["ucf"])
        self.attention = Attention(cfg, width, start, rngs)
        self.norm = LayerNorm(width)
        self.first = Linear(width, m.hidden[0], rngs, initializers.xavier_uniform())
        self.second = Linear(m.hidden[0], m.hidden[1], rngs, initializers.xavier_uniform())
        self.score = Conv(
            m.kernel, m.hidden[1], 1, rngs, before=m.kernel - 1, kernel_init=xavier_conv
        )
        self.prompt_proj = adapter(cfg.data.text_dim, m.hidden[0], rngs)
        self.log_scale = nnx.Param(jnp.asarray(-np.log(start.temperature), jnp.float32))
        self.rate = m.dropout
        self.attend_padding = kept(cfg, "attend_padding")

    def __call__(self, frozen: Frozen, batch: Batch, key: jax.Array | None, train: bool) -> Outputs:
        keys = keys_of(key, 2)
        x = visual_of(batch, self.narrow)
        there = present(batch, train)
        seen = there if self.attend_padding else present(batch, False)
        x = self.norm(x + self.attention(x, there, seen))
        features = dropout(jax.nn.gelu(self.first(x), approximate=False), self.rate, keys[0])
        x = dropout(jax.nn.gelu(self.second(features), approximate=False), self.rate, keys[1])
        logits = self.score(x)[..., 0]  # causal: padding is never before a snippet
        if not train:
            return Outputs(binary_logits=logits)
        assert frozen.class_name is not None
        prompts = frozen.class_name
        prompts = prompts if self.prompt_proj is None else self.prompt_proj(prompts)
        own = {"features": features, "prompts": prompts, "log_scale": self.log_scale[...]}
        return Outputs(binary_logits=logits, for_loss=own)


init, _, apply = functions(PEL4VAD)


def mil(
    logits: Float[Array, " T"],
    length: Int[Array, ""],
    abnormal: Float[Array, ""],
    every: int = PICK_EVERY,
) -> Float[Array, ""]:
    """Of one video: cross-entropy of the mean of its ⌊length/every⌋ + 1 highest probabilities with
    1; of a normal video, of the highest alone with 0.
    """
    of_many = binary_mil(logits, logits, length, abnormal, every)
    of_one = binary_mil(logits, logits, length, abnormal, len(logits) + 1)
    return jnp.where(abnormal > 0, of_many, of_one)


def pooled(
    features: Float[Array, "T H"], logits: Float[Array, " T"], slots: Bool[Array, " T"]
) -> Float[Array, "2 H"]:
    """Of one video: the mean of its features with weights e^{10s} − 1 of the scores s, its
    foreground; and with e^{10(1 − s)} − 1, its background.
    """
    scores = jnp.stack([jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)])
    weights = jnp.where(slots, jnp.expm1(SHARPNESS * scores), 0)
    return weights / jnp.maximum(weights.sum(-1, keepdims=True), 1e-12) @ features


def contrast(
    rows: Float[Array, "N H"],
    prompts: Float[Array, "N H"],
    labels: Int[Array, " N"],
    there: Bool[Array, " N"],
    log_scale: Float[Array, ""],
) -> Float[Array, ""]:
    """KL divergence, a row's mean, of each pooled row's softmax over the prompts of all rows from a
    softmax of 10 at the rows of its own label and 0 at others. `there`: the rows that count.

    0, without a gradient, where a log-probability is not a number, as in the program.
    """

    def log_shares(
        rows: Float[Array, "N H"], prompts: Float[Array, "N H"], log_scale: Float[Array, ""]
    ) -> Float[Array, "N N"]:
        logits = jnp.exp(log_scale) * unit(rows) @ unit(prompts).T
        return jax.nn.log_softmax(jnp.where(there, logits, LOW))

    found = jnp.where(there[:, None], log_shares(rows, prompts, log_scale), 0)
    broken = jnp.isnan(found).any()
    rows, prompts, log_scale = (jnp.where(broken, 0, x) for x in (rows, prompts, log_scale))
    same = jnp.where(labels[:, None] == labels, SHARPNESS, 0)
    log_target = jax.nn.log_softmax(jnp.where(there, same, LOW))
    pairs = there[:, None] & there
    divergence = jnp.exp(log_target) * (log_target - log_shares(rows, prompts, log_scale))
    count = jnp.maximum(there.sum(), 1).astype(jnp.float32)
    return jnp.where(broken, 0, jnp.where(pairs, divergence, 0).sum() / count)


def loss(
    cfg: Config,
    outputs: Outputs,
    batch: Batch,
    *,
    key: jax.Array | None = None,
    step: Array | int = 0,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """`mil`, mean over videos, and `contrast` over the pooled rows of all videos: the foreground of
    each with its class's prompt, and the background of the anomalous ones with the normal class's.

    Of several labels the first in the config's order counts. Rows of weight 0 do not count.
    """
    assert outputs.for_loss is not None
    own, weight, abnormal = outputs.for_loss, batch.weight, 1 - batch.labels[:, 0]
    every = cfg.loss.pick_every or PICK_EVERY
    videos = jax.vmap(partial(mil, every=every))(outputs.binary_logits, batch.length, abnormal)
    slots = present(batch, train=kept(cfg, "pool_padding"))
    fore, back = jax.vmap(pooled, out_axes=1)(own["features"], outputs.binary_logits, slots)
    label = jnp.argmax(batch.labels, axis=-1)
    labels = jnp.concatenate([label, jnp.zeros_like(label)])
    parts = {
        "binary": (videos * weight).sum() / jnp.maximum(weight.sum(), 1),
        "contrast": contrast(
            jnp.concatenate([fore, back]),
            own["prompts"][labels],
            labels,
            jnp.concatenate([weight, weight * abnormal]) > 0,
            own["log_scale"],
        ),
    }
    return sum(parts.values(), jnp.zeros(())), parts


def finish(cfg: Config, scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """A video's scores as the program smooths them (`model.smoothing`): means of each score and the
    six after it, or of eights in a row. The program takes what lies beyond the end for 0, so that
    the last scores shrink; fixed, the means are over what there is.
    """
    if cfg.model.smoothing == "none":
        return scores

    def sums(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        if cfg.model.smoothing == "sliding":
            beyond = np.pad(values, (0, SLIDING - 1))
            return np.lib.stride_tricks.sliding_window_view(beyond, SLIDING).sum(-1)
        blocks = np.pad(values, (0, -len(values) % BLOCK)).reshape(-1, BLOCK)
        return np.repeat(blocks.sum(-1), BLOCK)[: len(values)]

    if kept(cfg, "smooth_ends"):
        count = float(SLIDING if cfg.model.smoothing == "sliding" else BLOCK)
    else:
        count = sums(np.ones(len(scores)))
    return (sums(scores.astype(np.float64)) / count).astype(scores.dtype)

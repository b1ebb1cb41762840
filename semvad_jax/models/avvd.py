"""AVVD-style: what AVVD (Wu, Liu, Liu 2022) is described as. Its program is not public, so that
these are no numbers of AVVD's.

The graph branches are those of HL-Net (Roc-Ng/XDVioDet), which AVVD extends: over similar snippets,
over near ones, and over ones that a causal scorer finds alike. A class head learns beside the score
by VadCLIP's class loss. What no description says is ours: the causal scorer's widths, QuickGELU,
and where dropout stands. Padding is never seen, neither in training nor in a test.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from semvad_jax.config import Config
from semvad_jax.files import require
from semvad_jax.losses import PICK_EVERY, binary_mil, class_mil
from semvad_jax.models import functions
from semvad_jax.models.layers import (
    Conv,
    GraphConv,
    Linear,
    distance_adjacency,
    dropout,
    keys_of,
    narrow,
    over_valid,
    present,
    quick_gelu,
    similarity_adjacency,
    visual_of,
)
from semvad_jax.types import Batch, Frozen, Outputs

DISTIL = 5.0  # weight of the causal scorer's imitation of the score


class Causal(nnx.Module):
    """A score that sees no later snippet: two layers, and a convolution over the last ones."""

    def __init__(self, inputs: int, kernel: int, rngs: nnx.Rngs):
        self.first = Linear(inputs, inputs // 2, rngs)
        self.second = Linear(inputs // 2, inputs // 4, rngs)
        self.score = Conv(kernel, inputs // 4, 1, rngs, before=kernel - 1)

    def __call__(self, x: Float[Array, "B T I"]) -> Float[Array, "B T"]:
        return self.score(jax.nn.relu(self.second(jax.nn.relu(self.first(x)))))[..., 0]


class GraphBranch(nnx.Module):
    def __init__(self, inputs: int, outputs: int, rate: float, rngs: nnx.Rngs):
        self.first = GraphConv(inputs, outputs, rngs)
        self.second = GraphConv(outputs, outputs, rngs)
        self.rate = rate

    def __call__(
        self,
        x: Float[Array, "B T I"],
        adjacency: Float[Array, "#B T T"],
        valid: Bool[Array, "B T 1"],
        key: jax.Array | None,
    ) -> Float[Array, "B T D"]:
        x = dropout(quick_gelu(self.first(x, adjacency)), self.rate, key)
        return quick_gelu(self.second(jnp.where(valid, x, 0), adjacency))


def score_adjacency(scores: Float[Array, "B T"], length: Int[Array, " B"]) -> Float[Array, "B T T"]:
    """Row softmax, over the valid snippets, of how alike scores are: σ((½ − |s_i − s_j|)/0.1)."""
    alike = jax.nn.sigmoid((0.5 - jnp.abs(scores[:, :, None] - scores[:, None, :])) / 0.1)
    return over_valid(alike, length)


class AVVDStyle(nnx.Module):
    def __init__(self, cfg: Config, prompted: bool, rngs: nnx.Rngs):
        m = cfg.model
        require(m.hidden[1] >= 4, f"model.hidden {m.hidden} must end in 4 or more")
        self.narrow, inputs = narrow(cfg.data.feature_dim, rngs)
        self.first = Linear(inputs, m.hidden[0], rngs)
        self.second = Linear(m.hidden[0], m.hidden[1], rngs)
        self.causal = Causal(m.hidden[1], m.kernel, rngs)
        self.similarity, self.distance, self.score_graph = (
            GraphBranch(m.hidden[1], m.dim, m.dropout, rngs) for _ in range(3)
        )
        self.score = Linear(3 * m.dim, 1, rngs)
        self.classes = Linear(3 * m.dim, len(cfg.data.classes), rngs)
        self.rate = m.dropout

    def __call__(self, frozen: Frozen, batch: Batch, key: jax.Array | None, train: bool) -> Outputs:
        keys = keys_of(key, 5)
        x = visual_of(batch, self.narrow)
        x = dropout(jax.nn.relu(self.first(x)), self.rate, keys[0])
        x = dropout(jax.nn.relu(self.second(x)), self.rate, keys[1])
        valid = present(batch, train=False)[..., None]
        x = jnp.where(valid, x, 0)
        causal = self.causal(x)
        scores = jax.nn.sigmoid(jax.lax.stop_gradient(causal))  # the graph does not train them
        branches = (
            (self.similarity, similarity_adjacency(x, batch.length)),
            (self.distance, distance_adjacency(x.shape[1])),
            (self.score_graph, score_adjacency(scores, batch.length)),
        )
        joined = jnp.concatenate(
            [
                branch(x, adjacency, valid, own)
                for (branch, adjacency), own in zip(branches, keys[2:], strict=True)
            ],
            axis=-1,
        )
        return Outputs(
            binary_logits=self.score(joined)[..., 0],
            class_logits=self.classes(joined),
            for_loss={"causal": causal},
        )


init, _, apply = functions(AVVDStyle)


def imitation(
    causal: Float[Array, " T"], logits: Float[Array, " T"], length: Int[Array, ""]
) -> Float[Array, ""]:
    """Of one video: mean over snippets of −σ(score)·log σ(causal score); the score is not moved."""
    target = jax.nn.sigmoid(jax.lax.stop_gradient(logits))
    valid = jnp.arange(len(logits)) < length
    total = jnp.where(valid, -target * jax.nn.log_sigmoid(causal), 0).sum()
    return total / jnp.maximum(length, 1).astype(jnp.float32)


def loss(
    cfg: Config,
    outputs: Outputs,
    batch: Batch,
    *,
    key: jax.Array | None = None,
    step: Array | int = 0,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """HL-Net's three parts, and the class loss; means over the videos of weight 1."""
    assert outputs.for_loss is not None and outputs.class_logits is not None
    causal, logits, length = outputs.for_loss["causal"], outputs.binary_logits, batch.length
    every = cfg.loss.pick_every or PICK_EVERY
    abnormal = 1 - batch.labels[:, 0]
    mil = jax.vmap(partial(binary_mil, every=every))
    of_class = jax.vmap(partial(class_mil, every=every))
    of_videos = {
        "binary": mil(logits, logits, length, abnormal),
        "causal": mil(causal, causal, length, abnormal),
        "imitation": DISTIL * jax.vmap(imitation)(causal, logits, length),
        "class": of_class(outputs.class_logits, outputs.class_logits, length, batch.labels),
    }
    count = jnp.maximum(batch.weight.sum(), 1)
    parts = {name: (values * batch.weight).sum() / count for name, values in of_videos.items()}
    return sum(parts.values(), jnp.zeros(())), parts

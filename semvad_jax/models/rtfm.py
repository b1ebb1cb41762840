"""RTFM (Tian et al. 2021) as its public PyTorch program trains it: the snippets of the largest
features stand for a video, and those of anomalous videos are to be larger.

Crops of a video are trained together: they share the snippets that are chosen.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from semvad_jax.config import Config
from semvad_jax.losses import cross_entropy
from semvad_jax.models import functions, kept
from semvad_jax.models.layers import (
    Linear,
    by_crop,
    dropout,
    keys_of,
    l2_norm,
    masked,
    narrow,
    present,
    visual_of,
)
from semvad_jax.models.mtn import XAVIER, ZEROS, MultiScale, torch_names
from semvad_jax.types import Batch, Frozen, Outputs

TORCH = {
    **torch_names("magnitudes.temporal", "Aggregate"),
    "magnitudes.scorer.first": "fc1",
    "magnitudes.scorer.second": "fc2",
    "magnitudes.scorer.score": "fc3",
}
PICKS = 3  # snippets that stand for a video, whatever its length
MARGIN = 100.0  # that the features of anomalous snippets are to be long
MAGNITUDE, SPARSE, SMOOTH = 1e-4, 8e-3, 8e-4  # weights of the loss


class Scorer(nnx.Module):
    """Three layers on a snippet's features."""

    def __init__(self, cfg: Config, features: int, rngs: nnx.Rngs):
        first, second = cfg.model.hidden
        self.first = Linear(features, first, rngs, XAVIER, ZEROS)
        self.second = Linear(first, second, rngs, XAVIER, ZEROS)
        self.score = Linear(second, 1, rngs, XAVIER, ZEROS)
        self.rate = cfg.model.dropout

    def __call__(
        self, x: Float[Array, "*N T F"], keys: list[jax.Array | None]
    ) -> Float[Array, "*N T"]:
        x = dropout(jax.nn.relu(self.first(x)), self.rate, keys[0])
        x = dropout(jax.nn.relu(self.second(x)), self.rate, keys[1])
        return self.score(x)[..., 0]


class Magnitudes(nnx.Module):
    """The network and the scorer; what CLIP-TSA keeps of RTFM."""

    def __init__(self, cfg: Config, features: int, rngs: nnx.Rngs):
        self.temporal = MultiScale(features, cfg.model.dim, rngs)
        self.scorer = Scorer(cfg, features, rngs)
        self.rate = cfg.model.dropout

    def __call__(
        self,
        x: Float[Array, "B K T F"],
        there: Bool[Array, "B T"],
        key: jax.Array | None,
        train: bool,
    ) -> Outputs:
        size, crops, steps, width = x.shape
        keys = keys_of(key, 5)
        rows = self.temporal(x.reshape(-1, steps, width), jnp.repeat(there, crops, 0), train)
        rows = dropout(rows, self.rate, keys[0])
        logits = self.scorer(rows, keys[1:3]).reshape(size, crops, steps)
        if not train:
            return Outputs(binary_logits=logits.mean(1))
        return for_choice(logits, rows.reshape(x.shape), self.rate, keys[3:])


def for_choice(
    logits: Float[Array, "B K T"],
    features: Float[Array, "B K T F"],
    rate: float,
    keys: list[jax.Array | None],
) -> Outputs:
    """What a loss reads that lets the longest features of a video stand for it. A snippet that is
    dropped by the selector, drawn for anomalous videos first, is not chosen.
    """
    half = jnp.ones((logits.shape[0] // 2, logits.shape[2]))
    abnormal, normal = (dropout(half, rate, one) for one in keys)
    own = {
        "scores": jax.nn.sigmoid(logits).mean(1),
        "features": features,
        "selector": jnp.concatenate([normal, abnormal]),
    }
    return Outputs(binary_logits=logits.mean(1), for_loss=own)


class RTFM(nnx.Module):
    def __init__(self, cfg: Config, prompted: bool, rngs: nnx.Rngs):
        self.narrow, features = narrow(cfg.data.feature_dim, rngs)
        self.magnitudes = Magnitudes(cfg, features, rngs)

    def __call__(self, frozen: Frozen, batch: Batch, key: jax.Array | None, train: bool) -> Outputs:
        there = present(batch, train)
        x = by_crop(masked(visual_of(batch, self.narrow), there))
        return self.magnitudes(x, there, key, train)


init, init_state, apply = functions(RTFM)


def largest(features: Float[Array, "K T F"], selector: Float[Array, " T"]) -> Int[Array, " P"]:
    """The snippets of one video that stand for it: those with the longest features, by the mean
    over crops, where the `selector` has dropped none of them.
    """
    ranking = jax.lax.stop_gradient(l2_norm(features)[..., 0].mean(0) * selector)
    return jax.lax.top_k(ranking, min(PICKS, len(ranking)))[1]


def picked(
    scores: Float[Array, " T"], features: Float[Array, "K T F"], selector: Float[Array, " T"]
) -> tuple[Float[Array, ""], Float[Array, "K F"]]:
    """Of one video: the mean score and each crop's mean feature of the `largest` snippets."""
    picks = largest(features, selector)
    return scores[picks].mean(), features[:, picks].mean(1)


def magnitude(abnormal: Float[Array, "K F"], normal: Float[Array, "K F"]) -> Float[Array, ""]:
    """Of one pair of videos, the mean over crops: (|100 − ‖μ_a‖| + ‖μ_n‖)²."""
    far = jnp.abs(MARGIN - l2_norm(abnormal)) + l2_norm(normal)
    return jnp.square(far).mean()


def loss(
    cfg: Config,
    outputs: Outputs,
    batch: Batch,
    *,
    key: jax.Array | None = None,
    step: Array | int = 0,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The i-th anomalous video is paired with the i-th normal one. Smoothness and sparsity are the
    program's: of all anomalous scores in one row, video after video (`smooth_across`); fixed, of
    each video alone.
    """
    own = outputs.for_loss
    assert own is not None
    scores, features = jax.vmap(picked)(own["scores"], own["features"], own["selector"])
    normal, abnormal = jnp.split(features, 2)
    rows = own["scores"][len(abnormal) :]
    if kept(cfg, "smooth_across"):
        rows = rows.reshape(1, -1)
    parts = {
        "bce": cross_entropy(scores, 1 - batch.labels[:, 0]).mean(),
        "magnitude": MAGNITUDE * jax.vmap(magnitude)(abnormal, normal).mean(),
        "sparse": SPARSE * l2_norm(rows).mean(),
        "smooth": SMOOTH * jnp.square(jnp.diff(rows)).sum(),
    }
    return sum(parts.values(), jnp.zeros(())), parts

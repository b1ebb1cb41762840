"""CLIP-TSA (Joo et al. 2023) as its public PyTorch program trains it: a soft choice of snippets,
made differentiable by noise, in front of RTFM at a quarter of its width.

Its network takes 512 numbers a snippet. Other features pass two layers first, as the program has
them for I3D.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from semvad_jax.config import Config
from semvad_jax.models import functions, kept, rtfm
from semvad_jax.models.layers import Linear, by_crop, masked, narrow, present, visual_of
from semvad_jax.models.mtn import XAVIER, ZEROS
from semvad_jax.types import Batch, Frozen, Outputs

TORCH = rtfm.TORCH | {
    "chooser.hidden": "hard_attention.scorer.fc1",
    "chooser.score": "hard_attention.scorer.fc2",
    "wide.first": "mlp.fc1",
    "wide.second": "mlp.fc2",
}
UNREAD = ("mlp.",)  # of a program for CLIP's features, which do not pass it
WIDTH, HIDDEN, WIDE = 512, 256, 1024
SIGMA = 0.05  # of the noise on a snippet's score
SAMPLES = 100
MOST = 1000  # snippets that are chosen of one video

loss = rtfm.loss


class Wide(nnx.Module):
    """Two layers from other features to 512 numbers in [0, 1]."""

    def __init__(self, features: int, rngs: nnx.Rngs):
        self.first = Linear(features, WIDE, rngs)
        self.second = Linear(WIDE, WIDTH, rngs)

    def __call__(self, x: Float[Array, "*N F"]) -> Float[Array, "*N W"]:
        return jax.nn.sigmoid(self.second(jax.nn.relu(self.first(x))))


class Chooser(nnx.Module):
    """A score in [0, 1] for each snippet."""

    def __init__(self, rngs: nnx.Rngs):
        self.hidden = Linear(WIDTH, HIDDEN, rngs, XAVIER, ZEROS)
        self.score = Linear(HIDDEN, 1, rngs, XAVIER, ZEROS)

    def __call__(self, x: Float[Array, "*N T W"]) -> Float[Array, "*N T"]:
        return jax.nn.sigmoid(self.score(jax.nn.relu(self.hidden(x))))[..., 0]


class CLIPTSA(nnx.Module):
    def __init__(self, cfg: Config, prompted: bool, rngs: nnx.Rngs):
        self.narrow, features = narrow(cfg.data.feature_dim, rngs)
        self.wide = None if features == WIDTH else Wide(features, rngs)
        self.chooser = Chooser(rngs)
        self.magnitudes = rtfm.Magnitudes(cfg, WIDTH, rngs)
        self.keep, self.test_noise = cfg.model.keep, kept(cfg, "test_noise")

    def __call__(self, frozen: Frozen, batch: Batch, key: jax.Array | None, train: bool) -> Outputs:
        there, x = present(batch, train), by_crop(visual_of(batch, self.narrow))
        x = x if self.wide is None else self.wide(x)
        size, crops, steps, _ = x.shape
        scores = self.chooser(x).reshape(size * crops, steps)
        rows = jnp.repeat(there, crops, 0)
        drawn = noise(key, len(scores) if train else 1, steps)
        if not (train or self.test_noise):
            drawn = jnp.zeros_like(drawn)
        drawn = jnp.broadcast_to(drawn, (len(scores), *drawn.shape[1:]))
        chosen = jax.vmap(inclusion)(scores, drawn, rows, self.count(rows, train))
        x = masked(x * chosen.reshape(size, crops, steps, 1), there)
        return self.magnitudes(x, there, key, train)

    def count(self, there: Bool[Array, "N T"], train: bool) -> Int[Array, " N"]:
        """How many snippets are chosen of each sequence."""
        counts = [max(int(n * self.keep), 1) for n in range(there.shape[1] + 1)]
        counts = np.array(counts if train else np.minimum(counts, MOST), np.int32)
        return jnp.asarray(counts)[there.sum(1)]


init, init_state, apply = functions(CLIPTSA)


def noise(key: jax.Array | None, rows: int, steps: int) -> Float[Array, "N S T"]:
    """Standard normal draws for `rows` sequences, the same for every key that is None: a test draws
    too, and always the same. Each snippet has draws of its own, whatever padding follows.
    """
    key = jax.random.fold_in(jax.random.key(0) if key is None else key, SAMPLES)

    def of_snippet(place: Int[Array, ""]) -> Float[Array, "N S"]:
        return jax.random.normal(jax.random.fold_in(key, place), (rows, SAMPLES))

    return jnp.moveaxis(jax.vmap(of_snippet)(jnp.arange(steps)), 0, -1)


@jax.custom_vjp
def inclusion(
    scores: Float[Array, " T"],
    drawn: Float[Array, "S T"],
    there: Bool[Array, " T"],
    count: Int[Array, ""],
) -> Float[Array, " T"]:
    """Of one sequence: the share of the draws in which a snippet is among the `count` largest of
    score + 0.05 · noise.
    """
    return among_largest(scores, drawn, there, count).mean(0)


def among_largest(
    scores: Float[Array, " T"],
    drawn: Float[Array, "S T"],
    there: Bool[Array, " T"],
    count: Int[Array, ""],
) -> Float[Array, "S T"]:
    perturbed = jnp.where(there, scores + SIGMA * drawn, -jnp.inf)
    least = jnp.sort(perturbed, axis=1, descending=True)[:, count - 1]
    return (perturbed >= least[:, None]).astype(jnp.float32)


def _forward(scores, drawn, there, count):
    chosen = among_largest(scores, drawn, there, count)
    return chosen.mean(0), (chosen, drawn)


def _backward(saved, gradient):
    """The program's estimator, the transpose of the usual one: the noise is summed against the
    gradient over all snippets, and what comes of it goes to the snippets that were chosen.
    """
    chosen, drawn = saved
    against = drawn @ gradient
    return (chosen * against[:, None]).mean(0) / SIGMA, jnp.zeros_like(drawn), None, None


inclusion.defvjp(_forward, _backward)

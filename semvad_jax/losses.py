"""The losses (paper §3.4), each for ONE video; `total` maps them over the batch and adds."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from semvad_jax.config import UNSET, Config
from semvad_jax.types import Batch, Outputs

# of the public programs and the paper; `loss` has fields of the same names
PICK_EVERY = 16  # k = ⌊length/16⌋ + 1
GREEDY_DECAY = 0.99  # σ_t = 0.99^t


def l2_norm(x: Float[Array, "... N"]) -> Float[Array, "... 1"]:
    """The Euclidean norm, with gradient 0 (not NaN) at 0."""
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def unit(x: Float[Array, "... N"]) -> Float[Array, "... N"]:
    """x scaled to length 1, in float32; 0 stays 0."""
    x = x.astype(jnp.float32)
    return x / jnp.maximum(l2_norm(x), 1e-8)


def top_k_mean(
    values: Float[Array, " T"],
    ranking: Float[Array, " T"],
    length: Int[Array, ""],
    slots: Int[Array, ""] | int | None = None,
    every: int = PICK_EVERY,
) -> Float[Array, ""]:
    """Mean of `values` at the k = ⌊length/every⌋ + 1 snippets that `ranking` puts first among the
    first `slots` (default: the valid ones); 0 for an empty video.

    The picks carry no gradient; `values` do.
    """
    steps = ranking.shape[0]
    ranked = jnp.where(jnp.arange(steps) < (length if slots is None else slots), ranking, -jnp.inf)
    _, picks = jax.lax.top_k(jax.lax.stop_gradient(ranked), min(steps // every + 1, steps))
    count = jnp.minimum(length // every + 1, length)
    picked = jnp.where(jnp.arange(picks.shape[0]) < count, values[picks], 0)
    return picked.sum() / jnp.maximum(count, 1).astype(jnp.float32)


def _log(p: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """log p, at least −100 as in torch's BCE; gradient 0 where it is clamped."""
    positive = p > 0
    return jnp.where(positive, jnp.maximum(jnp.log(jnp.where(positive, p, 1)), -100), -100)


def cross_entropy(p: Float[Array, "*N"], label: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """Binary cross-entropy of probabilities, with torch's bound on the logarithm."""
    return -(label * _log(p) + (1 - label) * _log(1 - p))


def binary_mil(
    logits: Float[Array, " T"],
    ranking: Float[Array, " T"],
    length: Int[Array, ""],
    abnormal: Float[Array, ""],
    every: int = PICK_EVERY,
) -> Float[Array, ""]:
    """ℓ_cg: cross-entropy of the mean of the top-k snippet probabilities with the video's label."""
    p = top_k_mean(jax.nn.sigmoid(logits), ranking, length, None, every)
    q = top_k_mean(
        jax.nn.sigmoid(-logits), ranking, length, None, every
    )  # 1 − p without its rounding
    q = jnp.where(length > 0, q, 1)
    return -(abnormal * _log(p) + (1 - abnormal) * _log(q))


def class_mil(
    logits: Float[Array, "T C"],
    ranking: Float[Array, "T C"],
    length: Int[Array, ""],
    labels: Float[Array, " C"],
    every: int = PICK_EVERY,
) -> Float[Array, ""]:
    """ℓ_fg: each class takes the mean of its own top-k logits; cross-entropy with the labels, split
    equally.
    """
    over_classes = jax.vmap(partial(top_k_mean, every=every), (1, 1, None))
    video = over_classes(logits, ranking, length)
    return -(labels / jnp.maximum(labels.sum(), 1) * jax.nn.log_softmax(video)).sum()


def semantic(
    class_logits: Float[Array, "T C"],
    captions: Float[Array, "T D"],
    class_captions: Float[Array, "C D"],
    length: Int[Array, ""],
    labels: Float[Array, " C"],
    padding: bool = False,
    every: int = PICK_EVERY,
) -> Float[Array, ""]:
    """ℓ_sem: 1 − cos between a class's caption and the captions of its top-k snippets, mean over
    the video's classes.

    The probabilities only choose the snippets, so this trains L_c alone. With `padding` the slots
    after the last snippet may be chosen too, as in the authors' program.
    """
    distance = 1 - unit(captions) @ unit(class_captions).T
    slots = captions.shape[0] if padding else length
    over_classes = jax.vmap(partial(top_k_mean, every=every), (1, 1, None, None))
    video = over_classes(distance, jax.nn.softmax(class_logits), length, slots)
    return (labels * video).sum() / jnp.maximum(labels.sum(), 1)


def text_separation(
    class_text: Float[Array, "C W"], absolute: bool = False, all_pairs: bool = False
) -> Float[Array, ""]:
    """Eq. 4 without its weight: Σ over anomaly classes of max(0, cos(t'_0, t'_c)), or of |cos|.

    With `all_pairs` over every two classes, as §3.4 can be read ("other anomaly classes").
    """
    text = unit(class_text)
    cosine = jnp.triu(text @ text.T, 1) if all_pairs else text[1:] @ text[0]
    return (jnp.abs(cosine) if absolute else jax.nn.relu(cosine)).sum()


class Greedy(NamedTuple):
    """σ-greedy picks for one batch: which videos rank by distance, and that distance [B, T]."""

    use: Bool[Array, " B"]
    distance: Float[Array, "B T"]


def sigma_greedy(
    features: Float[Array, "B T W"],
    batch: Batch,
    key: jax.Array,
    step: Int[Array, ""],
    decay: float = GREEDY_DECAY,
) -> Greedy:
    """With probability σ_t = decay^t, abnormal videos rank snippets by their mean cosine distance
    to all nominal snippets.

    One draw a step serves both MIL losses; a batch without a nominal video keeps the usual ranking.
    """
    x = unit(jax.lax.stop_gradient(features))
    nominal = (batch.labels[:, 0] == 1) & (batch.weight > 0)
    valid = (jnp.arange(x.shape[1]) < batch.length[:, None]) & nominal[:, None]
    centre = jnp.where(valid[..., None], x, 0).sum((0, 1)) / jnp.maximum(valid.sum(), 1).astype(
        jnp.float32
    )
    explore = jax.random.uniform(key) < decay ** step.astype(jnp.float32)
    return Greedy(use=explore & valid.any() & (batch.labels[:, 0] != 1), distance=1 - x @ centre)


def total(
    cfg: Config,
    outputs: Outputs,
    batch: Batch,
    *,
    key: jax.Array | None = None,
    step: Int[Array, ""] | int = 0,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The sum of the weighted losses and its parts; a part the model has no outputs for is left out
    as 0.

    `key` and `step` drive σ-greedy. Rows of weight 0 do not count.
    """
    binary_ranking, class_ranking = outputs.binary_logits, outputs.class_logits
    if cfg.loss.sigma_greedy:
        assert key is not None and outputs.features is not None
        decay = GREEDY_DECAY if cfg.loss.sigma_decay is UNSET else cfg.loss.sigma_decay
        greedy = sigma_greedy(outputs.features, batch, key, jnp.asarray(step), decay)
        binary_ranking = jnp.where(greedy.use[:, None], greedy.distance, binary_ranking)
        if class_ranking is not None:
            class_ranking = jnp.where(
                greedy.use[:, None, None], greedy.distance[..., None], class_ranking
            )

    def mean(losses: Float[Array, " B"], weight: Float[Array, " B"]) -> Float[Array, ""]:
        return (losses * weight).sum() / jnp.maximum(weight.sum(), 1)

    abnormal, every = 1 - batch.labels[:, 0], cfg.loss.pick_every or PICK_EVERY
    zero = jnp.zeros(())
    parts = {"class": zero, "text": zero, "sem": zero}
    parts["binary"] = mean(
        jax.vmap(partial(binary_mil, every=every))(
            outputs.binary_logits, binary_ranking, batch.length, abnormal
        ),
        batch.weight,
    )
    if outputs.class_logits is not None and class_ranking is not None:
        parts["class"] = mean(
            jax.vmap(partial(class_mil, every=every))(
                outputs.class_logits, class_ranking, batch.length, batch.labels
            ),
            batch.weight,
        )
    if outputs.class_text is not None:
        absolute = cfg.loss.text_cosine == "absolute"
        pairs = cfg.loss.text_pairs == "all"
        parts["text"] = cfg.loss.text * text_separation(outputs.class_text, absolute, pairs)
    if cfg.loss.sem and outputs.class_captions is not None:
        assert outputs.class_logits is not None and outputs.captions is not None
        target = outputs.class_captions
        target = jax.lax.stop_gradient(target) if cfg.loss.sem_stop_class else target
        labels = batch.labels
        if cfg.loss.sem_labels == "first":
            labels = jax.nn.one_hot(jnp.argmax(labels, axis=-1), labels.shape[-1])
        over_videos = jax.vmap(
            partial(semantic, padding=bool(cfg.loss.sem_padding), every=every),
            (0, 0, None, 0, 0),
        )
        of_videos = over_videos(
            outputs.class_logits, outputs.captions, target, batch.length, labels
        )
        taken = batch.weight * abnormal if cfg.loss.sem_videos == "anomalous" else batch.weight
        parts["sem"] = cfg.loss.sem * mean(of_videos, taken)
    return sum(parts.values(), zero), parts

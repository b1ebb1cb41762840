"""How near captions are to sentences of the same moment, of another moment, and of other videos.

How high a cosine is depends on the text encoder more than on the captions, so every sentence is
also held against captions of another moment of its video and against those of other videos.

Letters: a video has n captions and m sentences; M sentences in all videos, V videos.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from semvad_jax.statistics import Interval, paired_difference
from semvad_jax.studies.sentences import Described, overlap

Encoder = Callable[[Sequence[str]], np.ndarray]  # texts -> embeddings [n, Q] of any length

TIE = 1e-9  # many captions of a video are one text; sums of equal cosines differ by rounding
ANOTHER = ("another moment", "another video")


class Cosines(NamedTuple):
    """Mean cosine of every sentence with captions, [M]; NaN where there are no such captions."""

    same: np.ndarray  # those of its own moment
    another: dict[str, np.ndarray]  # by ANOTHER
    # how often a caption of its own moment is nearer than another, one of each drawn, by ANOTHER
    nearer: dict[str, np.ndarray]
    video: np.ndarray  # [M] the sentence's video, 0 … V−1


@dataclass(frozen=True)
class Comparison:
    """Own moment against another, over the sentences that have both; intervals are over videos."""

    same: float
    other: float
    difference: float
    difference_interval: Interval | None
    nearer: float  # a half by chance, see `Cosines`; a tie counts half
    videos: int
    sentences: int


def measure(
    videos: Sequence[Described], encode: Encoder
) -> dict[str, dict[str, Comparison | None]]:
    """{"all" | "of the anomaly": {ANOTHER: Comparison}} by one encoder."""
    captions = _embedded(encode, [v.captions for v in videos])
    sentences = _embedded(encode, [v.sentences for v in videos])
    of_sentences = cosines(videos, captions, sentences)
    anomalous = np.concatenate([v.anomalous for v in videos])
    groups = {"all": np.ones_like(anomalous), "of the anomaly": anomalous}
    return {
        name: {
            another: compare(
                of_sentences.same[members],
                other[members],
                of_sentences.nearer[another][members],
                of_sentences.video[members],
            )
            for another, other in of_sentences.another.items()
        }
        for name, members in groups.items()
    }


def _embedded(encode: Encoder, texts: Sequence[Sequence[str]]) -> Sequence[np.ndarray]:
    """Unit vectors of each video's texts; one call for all, so that equal texts cost once."""
    rows = unit(encode([text for part in texts for text in part]))
    return np.split(rows, np.cumsum([len(part) for part in texts])[:-1])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [n, Q] made of length 1."""
    x = np.asarray(vectors, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def cosines(
    videos: Sequence[Described], captions: Sequence[np.ndarray], sentences: Sequence[np.ndarray]
) -> Cosines:
    """Every sentence against captions of its moment, of another moment, and of another video.

    Its own moment: the captions that overlap it, weighted by shared frames. Another moment: the
    mean over the captions of its video that share no frame with it. Another video: what a random
    other video's mean cosine is expected to be, exactly; each video has one weight.

    Args:
        captions, sentences: unit vectors [n, Q] and [m, Q] of each of the V videos.
    """
    means = np.stack([rows.mean(axis=0) for rows in captions])  # [V, Q]
    everything = np.concatenate(captions)  # [N, Q]
    of = np.repeat(np.arange(len(captions)), [len(rows) for rows in captions])
    weight = 1 / np.bincount(of)[of]
    same, another_moment, another_video = [], [], []
    nearer_than_moment, nearer_than_video = [], []
    for v, (described, ours, theirs) in enumerate(zip(videos, captions, sentences, strict=True)):
        values = theirs @ ours.T  # [m, n]
        shared = overlap(described.sentence_frames, described.caption_frames)
        same.append(_mean(values, shared))
        another_moment.append(_mean(values, shared == 0))
        rest = means.sum(axis=0) - means[v]  # the mean is linear: no cosine with each caption
        another_video.append(theirs @ rest / (len(videos) - 1 or math.nan))
        elsewhere = weight * (of != v)
        for own, frames, cosine in zip(values, shared, theirs @ everything.T, strict=True):
            nearer_than_moment.append(_chance_above(own, frames, own, frames == 0))
            nearer_than_video.append(_chance_above(own, frames, cosine, elsewhere))
    moment, video = ANOTHER
    return Cosines(
        np.concatenate(same),
        {moment: np.concatenate(another_moment), video: np.concatenate(another_video)},
        {moment: np.array(nearer_than_moment), video: np.array(nearer_than_video)},
        np.repeat(np.arange(len(videos)), [len(rows) for rows in sentences]),
    )


def _chance_above(
    x: np.ndarray, x_weight: np.ndarray, y: np.ndarray, y_weight: np.ndarray
) -> float:
    """How often an x, drawn by weight, is above a y; a tie counts half. NaN without weights."""
    if not (x_weight.any() and y_weight.any()):
        return math.nan
    order = np.argsort(y)
    below = np.append(0.0, np.cumsum(y_weight[order]))
    low = below[np.searchsorted(y[order], x - TIE, "left")]
    high = below[np.searchsorted(y[order], x + TIE, "right")]
    return float((low + high) / 2 / below[-1] @ x_weight / x_weight.sum())


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean of every row, NaN for a row of no weight."""
    total = weights.sum(axis=1)
    return (values * weights).sum(axis=1) / np.where(total > 0, total, np.nan)


def compare(
    same: np.ndarray, other: np.ndarray, nearer: np.ndarray, video: np.ndarray
) -> Comparison | None:
    """Paired comparison over the sentences that have both cosines; None where none has.

    A video's sentences are averaged first, since they are not independent, then the videos.

    Args:
        same, other, nearer, video: [M], as in `Cosines`.
    """
    both = np.isfinite(same) & np.isfinite(other)
    if not both.any():
        return None
    number = np.unique(video[both], return_inverse=True)[1]  # of the sentence's video, 0, 1, …
    own, others, shares = (
        (np.bincount(number, x[both]) / np.bincount(number)).tolist() for x in (same, other, nearer)
    )
    return Comparison(
        float(np.mean(own)),
        float(np.mean(others)),
        *paired_difference(own, others),
        float(np.mean(shares)),
        len(own),
        int(both.sum()),
    )

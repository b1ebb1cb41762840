"""Do captions say what people say of the same moment? Table 4 of the paper, made readable.

The paper gives the mean cosine of captions with human sentences alone. How high it is depends on
the text encoder more than on the captions, so every sentence is also held against captions of
another moment of its video and against those of other videos. Text encoders are handed in, as
{name: (texts) -> [n, Q]}. caption_match_table.py prints what is found.

Letters: a video has n captions and m sentences; M sentences in all videos, V videos.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from semvad_jax.files import BadInput
from semvad_jax.statistics import Interval, paired_difference
from semvad_jax.store.locate import open_store
from semvad_jax.studies.sentences import Described, described, overlap, read_sentences
from semvad_jax.studies.study import labelled

Encoder = Callable[[Sequence[str]], np.ndarray]

SENTENCES = "sentences"  # the label of --data that names no store
TIE = 1e-9  # many captions of a video are one text; sums of equal cosines differ by rounding
ANOTHER = ("another moment", "another video")


@dataclass(frozen=True)
class CaptionMatch:
    """The study; `pairs` is a file {"source": note, "pairs": [{"caption", "human", "paper"}, …]}.

    `paper` is the mean cosine that the paper prints. It is of other captions, by another encoder,
    and without a baseline: nothing follows from its distance to ours.
    """

    title: str
    pairs: Path
    paper: float
    data: Mapping[str, str] = field(default_factory=lambda: {"demo": "demo"})  # label → store
    sentences: str = "demo/sentences.json"


class Pair(NamedTuple):
    """A caption and a human sentence that the paper compares, and the cosine that it prints."""

    caption: str
    human: str
    paper: float


class Cosines(NamedTuple):
    """Mean cosine of every sentence with captions, [M]; NaN where there are no such captions."""

    same: np.ndarray  # those of its own moment
    another: dict[str, np.ndarray]  # by ANOTHER
    # how often a caption of its own moment is nearer than another, one of each drawn, by ANOTHER
    nearer: dict[str, np.ndarray]
    video: np.ndarray  # [M] the sentence's video, 0 … V−1


class Comparison(NamedTuple):
    """Own moment against another, over the sentences that have both; intervals are over videos."""

    same: float
    other: float
    difference: float
    difference_interval: Interval | None
    nearer: float  # a half by chance, see `Cosines`; a tie counts half
    videos: int
    sentences: int


class Found(NamedTuple):
    """A store's result; `compared` is [encoder][all | of the anomaly][ANOTHER]."""

    label: str
    store: str
    counts: dict[str, int]
    compared: dict[str, dict[str, dict[str, Comparison | None]]]


class Result(NamedTuple):
    sentences: str
    stores: list[Found]
    pairs: list[Pair]
    pair_cosines: dict[str, list[float]]  # by encoder, in the order of `pairs`


def run(study: CaptionMatch, given: Sequence[str], encoders: Mapping[str, Encoder]) -> Result:
    """Measures every store with every encoder.

    Args:
        given: --data's LABEL=STORE … and sentences=FILE|DIR; none for the study's own.
        encoders: (texts) -> embeddings [n, Q] of any length, by name.

    Raises BadInput: see `read_pairs` and sentences.py; and for stores without sentences or the
    other way round.
    """
    named = labelled(given) or {**study.data, SENTENCES: study.sentences}
    path = named.pop(SENTENCES, None)
    if path is None or not named:
        raise BadInput(
            f"--data {' '.join(given)}: give LABEL=STORE, for captions, and {SENTENCES}=FILE|DIR, "
            "for what people wrote of the same videos"
        )
    pairs, written = read_pairs(study.pairs), read_sentences(Path(path))
    chosen = {label: described(open_store(store), written) for label, store in named.items()}
    texts = [pair.caption for pair in pairs] + [pair.human for pair in pairs]
    pair_cosines = {}
    for name, encode in encoders.items() if pairs else ():
        left, right = np.split(_unit(encode(texts)), 2)
        pair_cosines[name] = (left * right).sum(axis=1).tolist()
    console, found = Console(highlight=False, markup=False), []
    for label, (videos, counts) in chosen.items():
        compared = {}
        for name, encode in encoders.items():
            console.print(f"{label}: {name} embeds captions and sentences")
            compared[name] = measure(videos, encode)
        found.append(Found(label, named[label], counts, compared))
    return Result(path, found, pairs, pair_cosines)


def read_pairs(path: Path) -> list[Pair]:
    """The paper's pairs; [] where nobody has put them there. Raises BadInput for another form."""
    try:
        rows = json.loads(path.read_bytes())["pairs"]
        return [Pair(str(r["caption"]), str(r["human"]), float(r["paper"])) for r in rows]
    except (OSError, ValueError, LookupError, TypeError):
        raise BadInput(
            f'{path} is no JSON of "source" and "pairs", a list of {{"caption", "human", "paper"}};'
            " correct it"
        ) from None


def measure(
    videos: Sequence[Described], encode: Encoder
) -> dict[str, dict[str, Comparison | None]]:
    """{"all" | "of the anomaly": {ANOTHER: Comparison}} by one encoder."""
    sides = [[v.captions for v in videos], [v.sentences for v in videos]]
    captions, sentences = (_embedded(encode, side) for side in sides)
    found = cosines(videos, captions, sentences)
    anomalous = np.concatenate([v.anomalous for v in videos])
    groups = {"all": np.ones_like(anomalous), "of the anomaly": anomalous}
    return {
        name: {
            kind: compare(*(x[group] for x in (found.same, other, found.nearer[kind], found.video)))
            for kind, other in found.another.items()
        }
        for name, group in groups.items()
    }


def _embedded(encode: Encoder, texts: Sequence[Sequence[str]]) -> Sequence[np.ndarray]:
    """Unit vectors of each video's texts; one call for all, so that equal texts cost once."""
    rows = _unit(encode([text for part in texts for text in part]))
    return np.split(rows, np.cumsum([len(part) for part in texts])[:-1])


def _unit(vectors: np.ndarray) -> np.ndarray:
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
    same, moment, another, nearer = [], [], [], {kind: [] for kind in ANOTHER}
    for v, (video, ours, theirs) in enumerate(zip(videos, captions, sentences, strict=True)):
        values = theirs @ ours.T  # [m, n]
        shared = overlap(video.sentence_frames, video.caption_frames)
        same.append(_mean(values, shared))
        moment.append(_mean(values, shared == 0))
        rest = means.sum(axis=0) - means[v]  # the mean is linear: no cosine with each caption
        another.append(theirs @ rest / (len(videos) - 1 or math.nan))
        elsewhere = weight * (of != v)
        for own, frames, cosine in zip(values, shared, theirs @ everything.T, strict=True):
            for kind, drawn in zip(ANOTHER, ((own, frames == 0), (cosine, elsewhere)), strict=True):
                nearer[kind].append(_chance_above(own, frames, *drawn))
    parts = (np.concatenate(moment), np.concatenate(another))
    return Cosines(
        np.concatenate(same),
        dict(zip(ANOTHER, parts, strict=True)),
        {kind: np.array(chances) for kind, chances in nearer.items()},
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
    place = np.unique(video[both], return_inverse=True)[1]
    own, others, shares = (
        (np.bincount(place, x[both]) / np.bincount(place)).tolist() for x in (same, other, nearer)
    )
    return Comparison(
        float(np.mean(own)),
        float(np.mean(others)),
        *paired_difference(own, others),
        float(np.mean(shares)),
        len(own),
        int(both.sum()),
    )

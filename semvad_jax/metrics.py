"""Frame AUC and AP, and detection mAP@IoU, in float64 NumPy.

All frames of a snippet share its score, so every number is computed from snippets weighted by
their frames and equals the number computed from the frames. Results are fractions in [0, 1]; of the
C classes 0 is normal; frames count from 0 and intervals are half-open.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

Scores = Sequence[Any]  # one array [T_v, C] a video
Truth = Sequence[Sequence[tuple[int, float, float]]]  # (class, start, end) in frames

SNIPPET = 16  # frames
DEPTH = 0.6  # how far below a video's peak, as a share of its range, a segment reaches
VIDEO_SHARE = 0.7  # of the video's own score in the score of a segment


class MetricName(NamedTuple):
    """Which number of a run is meant: "last/binary/auc" on disk, these three fields in memory.

    This class is the only place where such a text is put together or taken apart.
    """

    selection: str  # which weights: last, val, test; in metrics.jsonl: which videos, val or test
    head: str  # binary, class, or max, the better of the two
    # auc, ap, ap_trapezoid, auc_abnormal, map, map@0.1 … map@0.5, map_clean, map_clean@0.1 …
    metric: str

    def __str__(self) -> str:
        return "/".join(self)

    @classmethod
    def parse(cls, text: str) -> "MetricName":
        """The name that `str` made this text of. Raises ValueError for any other text."""
        parts = text.split("/")
        if len(parts) != 3 or not all(parts):
            raise ValueError(f"{text!r} is not of the form selection/head/metric")
        return cls(*parts)


def frame_auc(scores: Any, positive_frames: Any, frames: Any) -> float:
    """Area under the ROC curve over frames; a pair of tied frames counts one half.

    Args:
        scores: [N], higher = more anomalous; one entry a snippet in all three.
        positive_frames: [N], how many of the snippet's frames are anomalous.
        frames: [N], how many frames it has.

    Raises ValueError without positive or without negative frames, for non-finite scores and for
    other shapes.
    """
    positive, negative = _frames_by_score(scores, positive_frames, frames)
    if not positive.sum() or not negative.sum():
        missing = "positive" if not positive.sum() else "negative"
        raise ValueError(f"frame AUC needs frames of both kinds, and there is no {missing} frame")
    below = np.cumsum(negative) - negative
    return float(positive @ (below + negative / 2) / (positive.sum() * negative.sum()))


def frame_ap(scores: Any, positive_frames: Any, frames: Any) -> float:
    """Average precision over frames: Σ precision × added recall over the distinct scores.

    Arguments as in `frame_auc`. Raises ValueError without positive frames, for non-finite scores
    and for other shapes.
    """
    positive, negative = (x[::-1] for x in _frames_by_score(scores, positive_frames, frames))
    if not positive.sum():
        raise ValueError("frame AP needs positive frames, and there is none")
    above = np.cumsum(positive)
    precision = above / (above + np.cumsum(negative))
    return float(positive @ precision / positive.sum())


def frame_ap_trapezoid(scores: Any, positive_frames: Any, frames: Any) -> float:
    """Area under the precision-recall curve, its points at the distinct scores joined by straight
    lines, from (recall 0, precision 1): what RTFM, UR-DMU, PEL4VAD and CLIP-TSA publish as AP.

    It lies above or below `frame_ap`, and is the same only without ties and jumps. Arguments and
    errors as there.
    """
    positive, negative = (x[::-1] for x in _frames_by_score(scores, positive_frames, frames))
    if not positive.sum():
        raise ValueError("frame AP needs positive frames, and there is none")
    above = np.cumsum(positive)
    precision = np.append(1.0, above / (above + np.cumsum(negative)))
    return float(positive @ (precision[1:] + precision[:-1]) / 2 / positive.sum())


def detection_map(
    scores: Scores,
    truth: Truth,
    ious: Sequence[float],
    protocol: Literal["vadclip", "clean"] = "vadclip",
    edges: Sequence[Any] | None = None,
) -> list[float]:
    """Mean average precision of temporal detection, one fraction per IoU threshold.

    A segment is a run of frames above max − 0.6 (max − min) of its video and class, at least two
    frames long. Its score is its maximum plus 0.7 times the mean of the video's highest ⌊frames/16⌋
    frame scores. Over the data set, best first (ties: by video, then time), a segment takes the
    unmatched truth it overlaps most, where their IoU reaches the threshold.
    AP = Σ precision at each match / number of truths.

    Args:
        scores: class probabilities [T_v, C] of every video's snippets.
        truth: (class, start, end) of every video's segments, in frames; class −1, a label outside
            the list, is ignored.
        ious: thresholds in (0, 1].
        protocol: "vadclip": as VadCLIP's public evaluator computes it. Every class counts, one
            without truth as 0, and all is 0 if any class has no predicted segment. "clean": the
            mean over the anomaly classes (index ≥ 1) that have truth.
        edges: frame boundaries [T_v + 1] of every video's snippets; 0, 16, 32, … where absent.

    Raises ValueError for inputs that do not fit together, non-finite scores, an unknown protocol,
    and for "clean" without any anomaly.
    """
    values, bounds, counts = _checked(scores, truth, edges)
    classes = values.shape[1]
    predicted = _segments(values, bounds, counts)
    listed = [(c, v, a, b) for v, segments in enumerate(truth) for c, a, b in segments if c >= 0]
    real = np.array(listed, dtype=np.float64).reshape(-1, 4)
    if len(real) and real[:, 0].max() >= classes:
        worst = int(real[:, 0].max())
        raise ValueError(f"a truth segment has class {worst}, the scores {classes} classes")
    truths = np.bincount(real[:, 0].astype(int), minlength=classes)
    if protocol == "vadclip":
        if not np.isin(np.arange(classes), predicted.cls).all():
            return [0.0 for _ in ious]
        judged = np.arange(classes)
    elif protocol == "clean":
        judged = np.flatnonzero(truths[1:]) + 1
        if not len(judged):
            raise ValueError("detection mAP needs truth of an anomaly class, and there is none")
    else:
        raise ValueError(f"unknown protocol {protocol!r}; it is vadclip or clean")
    aps = _average_precisions(predicted, real, truths, ious, len(counts))
    return [float(np.mean(ap[judged])) for ap in aps]


class _Segments(NamedTuple):
    """Predicted segments [M], in order of class, video and time."""

    cls: np.ndarray
    video: np.ndarray
    start: np.ndarray  # frames
    end: np.ndarray
    score: np.ndarray


def _frames_by_score(
    scores: Any, positive_frames: Any, frames: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Positive and negative frames at each distinct score, ascending."""
    s, p, n = (np.asarray(x, dtype=np.float64) for x in (scores, positive_frames, frames))
    if s.ndim != 1 or not s.shape == p.shape == n.shape:
        raise ValueError(
            "scores, positive_frames and frames must be three vectors of one length, "
            f"not {s.shape}, {p.shape} and {n.shape}"
        )
    if not np.isfinite(s).all():
        raise ValueError(f"the scores hold {int((~np.isfinite(s)).sum())} non-finite values")
    if not ((0 <= p) & (p <= n)).all():
        raise ValueError("positive_frames must lie between 0 and frames")
    s, p, n = s[n > 0], p[n > 0], n[n > 0]
    distinct, rank = np.unique(s, return_inverse=True)
    positive = np.bincount(rank, p, len(distinct))
    return positive, np.bincount(rank, n - p, len(distinct))


def _checked(
    scores: Scores, truth: Truth, edges: Sequence[Any] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All snippets' scores [N, C] and (start, end) frames [N, 2]; each video's snippets [V]."""
    arrays = [np.asarray(s, dtype=np.float64) for s in scores]
    counts = np.array([len(s) for s in arrays])
    listed = {len(arrays), len(truth), len(arrays if edges is None else edges)}
    if len(listed) > 1 or not arrays:
        raise ValueError("scores, truth and edges must list the same videos, at least one")
    if any(s.ndim != 2 or s.shape[1] != arrays[0].shape[-1] for s in arrays) or not counts.all():
        raise ValueError("each video's scores must be [snippets, classes], one snippet or more")
    values = np.concatenate(arrays)
    if not np.isfinite(values).all():
        raise ValueError(f"the scores hold {int((~np.isfinite(values)).sum())} non-finite values")
    if edges is None:
        edges = [SNIPPET * np.arange(n + 1) for n in counts]
    borders = [np.asarray(e) for e in edges]
    if any(len(b) != n + 1 or min(np.diff(b)) <= 0 for b, n in zip(borders, counts, strict=True)):
        raise ValueError("edges must be ascending frame numbers, one more than there are snippets")
    bounds = np.concatenate([np.stack([b[:-1], b[1:]], axis=1) for b in borders])
    return values, bounds.astype(np.int64), counts


def _segments(values: np.ndarray, bounds: np.ndarray, counts: np.ndarray) -> _Segments:
    """Every video's and class's segments with their scores (see `detection_map`)."""
    total, classes = values.shape
    video = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    top, low = np.maximum.reduceat(values, first), np.minimum.reduceat(values, first)  # [V, C]
    active = values > (top - (top - low) * DEPTH)[video]
    border = np.zeros((total + 1, 1), dtype=bool)
    border[first] = border[total] = True
    begins = active & (border[:-1] | ~np.roll(active, 1, axis=0))
    ends = active & (border[1:] | ~np.roll(active, -1, axis=0))
    cls, begin = np.nonzero(begins.T)
    end = np.nonzero(ends.T)[1]
    # reduceat from begin to end + 1, from there to the next begin, …: every other one is a run
    turns = np.stack([cls * total + begin, cls * total + end + 1], axis=1).ravel()
    flat = np.append(values.T, -np.inf)
    peak = np.maximum.reduceat(flat, turns)[::2] if len(turns) else np.zeros(0)
    overall = _video_scores(values, np.diff(bounds)[:, 0], video, first)
    score = peak + VIDEO_SHARE * overall[video[begin], cls]
    # the public evaluator's non-maximum suppression is absent: runs of one threshold are disjoint
    long = bounds[end, 1] - bounds[begin, 0] >= 2
    segments = _Segments(cls, video[begin], bounds[begin, 0], bounds[end, 1], score)
    return _Segments(*(x[long] for x in segments))


def _video_scores(
    values: np.ndarray, frames: np.ndarray, video: np.ndarray, first: np.ndarray
) -> np.ndarray:
    """[V, C]: the mean of each video's highest max(1, ⌊frames/16⌋) frame scores."""
    wanted = np.maximum(np.add.reduceat(frames, first) // SNIPPET, 1)
    means = []
    for column in values.T:
        order = np.lexsort((-column, video))
        size = frames[order]
        before = np.cumsum(size) - size
        room = wanted[video] - (before - before[first][video])
        means.append(np.add.reduceat(column[order] * np.clip(room, 0, size), first) / wanted)
    return np.stack(means, axis=1)


def _average_precisions(
    predicted: _Segments, real: np.ndarray, truths: np.ndarray, ious: Sequence[float], videos: int
) -> list[np.ndarray]:
    """AP [C] for each threshold; `real` [G, 4]: class, video, start, end; `truths` [C]: a count."""
    group, wanted = predicted.cls * videos + predicted.video, real[:, 0] * videos + real[:, 1]
    left, right = (np.searchsorted(group, wanted, side) for side in ("left", "right"))
    size = right - left
    truth = np.repeat(np.arange(len(real)), size)
    segment = np.arange(size.sum()) + np.repeat(left - (np.cumsum(size) - size), size)
    start, end = np.rint(real[truth, 2]), np.rint(real[truth, 3])  # to even, as Python's round
    shared = np.minimum(predicted.end[segment], end) - np.maximum(predicted.start[segment], start)
    shared = np.maximum(shared, 0)
    lengths = predicted.end[segment] - predicted.start[segment] + np.maximum(end - start, 0)
    iou = shared / (lengths - shared)

    rank = np.empty(len(predicted.score), dtype=np.int64)
    rank[np.lexsort((-predicted.score, predicted.cls))] = np.arange(len(rank))
    rank -= np.searchsorted(predicted.cls, predicted.cls)
    # sorted so, the first free pair is what a greedy search finds: best IoU, then first in the list
    order = np.lexsort((truth, -iou, rank[segment]))
    order = order[iou[order] > 0]
    segment, truth, iou = segment[order], truth[order], iou[order]

    results = []
    for threshold in ious:
        near = iou >= threshold
        matched: dict[int, int] = {}
        taken = set()
        for s, t in zip(segment[near].tolist(), truth[near].tolist(), strict=True):
            if s not in matched and t not in taken:
                matched[s] = t
                taken.add(t)
        hits = np.fromiter(matched, dtype=np.int64, count=len(matched))
        ap = np.zeros(len(truths))
        for c in np.unique(predicted.cls[hits]):
            ranks = np.sort(rank[hits[predicted.cls[hits] == c]]) + 1
            ap[c] = np.sum(np.arange(1, len(ranks) + 1) / ranks) / truths[c]
        results.append(ap)
    return results

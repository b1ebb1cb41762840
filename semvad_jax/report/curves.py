"""What a run's page and drawings show, as plain numbers: training curves, ROC and PR, the result of
each class, the confusion of classes, and the worst errors.

ROC and PR curves are exact: every score is a threshold, and a snippet weighs as many frames as it
has. They are averaged over seeds vertically: ROC at the same share of false alarms, PR at the same
recall.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from semvad_jax import checkpoint
from semvad_jax.evaluate import Scores, Videos, intervals_of
from semvad_jax.metrics import MetricName, frame_auc
from semvad_jax.report.worst import Moment, Worst

GRID = np.linspace(0, 1, 201)  # where ROC and PR are computed


@dataclasses.dataclass(frozen=True)
class Line:
    """One quantity of every seed, a row each, at the same G places; NaN once a seed has stopped."""

    name: str
    x: Float[np.ndarray, " G"]
    values: Float[np.ndarray, "S G"]

    @property
    def mean(self) -> Float[np.ndarray, " G"]:
        """The mean over seeds. It is NaN where a seed is missing: a mean over those that go on is
        another quantity.
        """
        return self.values.mean(axis=0)

    @property
    def sd(self) -> Float[np.ndarray, " G"] | None:
        """Sample SD over seeds; None for one seed."""
        return self.values.std(axis=0, ddof=1) if len(self.values) > 1 else None


@dataclasses.dataclass(frozen=True)
class Panel:
    """Lines over common axes.

    `square`: both axes go from 0 to 100 %, and lines have a band of ± SD; else every seed is drawn.
    `chance`: the height, at the left and at the right, of the line of scores that know nothing.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    square: bool = False
    chance: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class ClassResult:
    """Frame AUC of each seed on the videos of one anomaly class and all normal ones."""

    name: str
    videos: int
    auc: list[float]


@dataclasses.dataclass(frozen=True)
class RunData:
    """The numbers of a run's page, by the weights of one selection (last, val or test).

    `head` is the one by which the classes are judged and the worst errors looked for; `metric` is
    the one that selects weights.
    """

    selection: str
    head: str
    metric: str
    classes: tuple[str, ...]
    training: tuple[Panel, ...]
    curves: tuple[Panel, ...]
    bars: tuple[ClassResult, ...]
    confusion: Float[np.ndarray, "C C"] | None  # numbers of videos, by label and by what was said
    false_alarms: tuple[Moment, ...]
    misses: tuple[Moment, ...]


def run_data(
    run: Path,
    pairs: Sequence[tuple[int, int]],
    videos: Videos,
    scores: Sequence[Scores],
    selection: str,
    head: str,
) -> RunData:
    """The numbers of the run at RUN, whose seeds are the `pairs` of (weight seed, data seed).

    `scores` are those of the test videos, an entry a seed in the order of `pairs`.
    """
    worst = Worst(videos, scores, head) if videos.test else None
    return RunData(
        selection=selection,
        head=head,
        metric=videos.cfg.eval.metric,
        classes=videos.store.classes,
        training=training(run / "metrics.jsonl", pairs, videos.cfg.eval.metric),
        curves=curves(videos, scores) if videos.test else (),
        bars=class_results(videos, scores, head),
        confusion=confusion(videos, scores) if videos.test else None,
        false_alarms=worst.false_alarms() if worst else (),
        misses=worst.misses() if worst else (),
    )


def training(path: Path, pairs: Sequence[tuple[int, int]], metric: str) -> tuple[Panel, ...]:
    """The curves of metrics.jsonl: the selecting metric of the test and of the val videos, in per
    cent, and the loss, against the step.
    """
    rows = checkpoint.metrics_lines(path, ("step", "weight_seed", "data_seed"))
    known = rows[0] if rows else {}
    evaluations = {(row["step"], row["weight_seed"], row["data_seed"]): row for row in rows}
    steps = sorted({row["step"] for row in rows})

    def line(name: str, key: str, scale: float) -> Line:
        """The values times `scale` that stand under `key`, NaN where a seed has no line."""
        values = [
            [evaluations.get((step, *pair), {}).get(key, np.nan) for step in steps]
            for pair in pairs
        ]
        return Line(name, np.array(steps, float), scale * np.array(values, float))

    panels = []
    for part, title in (("test", "Test videos, frame level"), ("val", "Val videos, video level")):
        names = [MetricName(part, head, metric) for head in ("binary", "class")]
        lines = [line(f"{n.head} head", str(n), 100) for n in names if str(n) in known]
        if lines:
            label = f"{metric.upper()}, %"
            panels.append(Panel(f"training_{part}", title, "step", label, tuple(lines)))
    loss = line("all terms", "loss", 1)
    return (*panels, Panel("training_loss", "Training loss", "step", "loss", (loss,)))


def curves(videos: Videos, scores: Sequence[Scores]) -> tuple[Panel, Panel]:
    """ROC and PR of every head over the frames of the test videos, in per cent; `scores` has an
    entry a seed.
    """
    positive, frames = videos.truth.positive, videos.truth.frames
    lines: dict[str, list[Line]] = {"roc": [], "pr": []}
    for head in scores[0].heads():
        joined = [np.concatenate(s.head(head)) for s in scores]
        for name, curve in (("roc", roc), ("pr", precision)):
            values = np.stack([curve(s, positive, frames, GRID) for s in joined])
            lines[name].append(Line(f"{head} head", 100 * GRID, 100 * values))
    share = 100 * float(positive.sum() / frames.sum())
    return (
        Panel(
            name="roc",
            title="ROC",
            x_label="normal frames above the threshold, %",
            y_label="anomalous frames above it, %",
            lines=tuple(lines["roc"]),
            square=True,
            chance=(0, 100),
        ),
        Panel(
            name="pr",
            title="Precision and recall",
            x_label="recall: anomalous frames found, %",
            y_label="precision, %",
            lines=tuple(lines["pr"]),
            square=True,
            chance=(share, share),
        ),
    )


def roc(
    scores: np.ndarray, positive: np.ndarray, frames: np.ndarray, at: Float[np.ndarray, " G"]
) -> Float[np.ndarray, " G"]:
    """The share of the anomalous frames above the threshold where the share `at` of the normal ones
    is above it, in straight lines between thresholds.

    `scores`, `positive` and `frames` are as in `metrics.frame_auc`, which is the area below.
    """
    true, false = _above(scores, positive, frames)
    return np.interp(at, np.append(0, false / false[-1]), np.append(0, true / true[-1]))


def precision(
    scores: np.ndarray, positive: np.ndarray, frames: np.ndarray, at: Float[np.ndarray, " G"]
) -> Float[np.ndarray, " G"]:
    """Precision at the highest threshold above which the share `at` of the anomalous frames is: the
    staircase whose area is `metrics.frame_ap`.
    """
    true, false = _above(scores, positive, frames)
    return (true / (true + false))[np.searchsorted(true / true[-1], at)]


def _above(
    scores: np.ndarray, positive: np.ndarray, frames: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How many anomalous and how many normal frames lie at or above each distinct score, from the
    highest score down.
    """
    distinct_scores, rank = np.unique(-scores, return_inverse=True)
    true = np.bincount(rank, positive, len(distinct_scores))
    false = np.bincount(rank, frames - positive, len(distinct_scores))
    return np.cumsum(true), np.cumsum(false)


def class_results(videos: Videos, scores: Sequence[Scores], head: str) -> tuple[ClassResult, ...]:
    """The results of every anomaly class that test videos have, judged on its videos and the normal
    ones alone. A video of several classes counts for each.
    """
    store, by_seed = videos.store, [s.head(head) for s in scores]
    normal, *anomalies = store.classes
    labels = [store.videos[i].labels for i in videos.test]
    results = []
    for name in anomalies:
        judged = [k for k, of_video in enumerate(labels) if name in of_video or normal in of_video]
        truth = intervals_of(store, [videos.test[k] for k in judged])
        if 0 < truth.positive.sum() < truth.frames.sum():
            joined = [np.concatenate([of_seed[k] for k in judged]) for of_seed in by_seed]
            auc = [frame_auc(s, truth.positive, truth.frames) for s in joined]
            results.append(ClassResult(name, sum(name in of_video for of_video in labels), auc))
    return tuple(results)


def confusion(videos: Videos, scores: Sequence[Scores]) -> Float[np.ndarray, "C C"] | None:
    """How many test videos of each class are called which, the mean over seeds; None without a
    class head.

    A video is called what has the largest mean probability over its ⌊n/16⌋ + 1 snippets of the
    least p(normal). One of several labels is counted under the one it is called, else the first.
    """
    classes = videos.store.classes
    counts = np.zeros((len(classes), len(classes)))
    for seed in scores:
        if seed.classes is None:
            return None
        for i, p in zip(videos.test, seed.classes, strict=True):
            top = np.argsort(p[:, 0], kind="stable")[: len(p) // 16 + 1]
            called = int(p[top].mean(axis=0, dtype=np.float64).argmax())
            labels = [classes.index(name) for name in videos.store.videos[i].labels]
            counts[called if called in labels else labels[0], called] += 1
    return counts / len(scores)


def shares(counts: Float[np.ndarray, "C C"]) -> Float[np.ndarray, "C C"]:
    """Counts as shares of their rows, 0 in a row without any."""
    return counts / np.where(counts.any(axis=1, keepdims=True), counts.sum(1, keepdims=True), 1)

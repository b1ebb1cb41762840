"""From parameters to metrics: snippet scores on the device for ONE seed, metrics on the host."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from semvad_jax.config import Config
from semvad_jax.data import (
    judged,
    left_out,
    readable,
    slots_of,
    split,
    window_of,
    window_shapes,
    windows,
)
from semvad_jax.files import BadInput
from semvad_jax.metrics import (
    MetricName,
    detection_map,
    frame_ap,
    frame_ap_trapezoid,
    frame_auc,
)
from semvad_jax.models import model
from semvad_jax.store import Store
from semvad_jax.types import Batch, Frozen, Weights, Windows

IOUS = (0.1, 0.2, 0.3, 0.4, 0.5)


class SlotScores(NamedTuple):
    """Probabilities of the snippet slots of some windows, by each head."""

    binary: Float[Array | np.ndarray, "*S N B T"]
    classes: Float[Array | np.ndarray, "*S N B T C"] | None


def score_windows(
    cfg: Config, frozen: Frozen, groups: Sequence[Windows], weights: Weights
) -> tuple[SlotScores, ...]:
    """Anomaly and class probabilities of every snippet slot, batch after batch of windows; one
    entry a group of equally long windows.
    """

    def batch_scores(window: Windows) -> SlotScores:
        visual, captions, length = map(jnp.asarray, (window.visual, window.captions, window.length))
        labels = jnp.zeros((length.shape[0], len(cfg.data.classes)))
        batch = Batch(visual, captions, length, labels, jnp.ones(length.shape[0]))
        outputs = model(cfg).apply(cfg, weights.params, frozen, batch, state=weights.state)
        anomaly, classes = jax.nn.sigmoid(outputs.binary_logits), outputs.class_logits
        if classes is None:
            return SlotScores(anomaly, None)
        if cfg.eval.fuse_heads:
            fused = fused_classes(outputs.binary_logits, classes, cfg.eval.temperature)
            return SlotScores(anomaly, fused)
        return SlotScores(anomaly, jax.nn.softmax(classes))

    return tuple(jax.lax.map(batch_scores, windows) for windows in groups)


def fused_classes(
    binary_logits: Float[Array, "B T"],
    class_logits: Float[Array, "B T C"],
    temperature: float = 1.0,
) -> Float[Array, "B T C"]:
    """Class probabilities whose anomaly is the binary head's and whose kind is the class head's
    (DSANet's inference): p_normal = 1 − σ(l1), p_c = σ(l1) · softmax(l2)_c / Σ over anomalies, of
    logits divided by a temperature.
    """
    binary_logits, class_logits = binary_logits / temperature, class_logits / temperature
    kinds = jax.nn.softmax(class_logits[..., 1:])
    normal = jax.nn.sigmoid(-binary_logits)[..., None]
    return jnp.concatenate([normal, jax.nn.sigmoid(binary_logits)[..., None] * kinds], axis=-1)


@dataclasses.dataclass(frozen=True)
class Scores:
    """One seed's probabilities for the snippets of some videos."""

    binary: list[Float[np.ndarray, " _"]]  # one entry a video
    classes: list[Float[np.ndarray, "_ C"]] | None

    def head(self, name: str) -> list[Float[np.ndarray, " _"]]:
        """Anomaly scores by the binary or the class head, an array [snippets] a video; the class
        head's score is 1 − p(normal).

        Raises ValueError for a head that these scores do not have. `max` is none: it is the better
        of two metrics, and scores no snippet.
        """
        if name == "binary":
            return self.binary
        if name == "class" and self.classes is not None:
            return [1 - p[:, 0] for p in self.classes]
        raise ValueError(
            f"there are no scores by a head {name!r}; these are by {' and '.join(self.heads())}"
        )

    def heads(self) -> tuple[str, ...]:
        return ("binary",) if self.classes is None else ("binary", "class")

    @classmethod
    def joined(cls, parts: "Sequence[Scores]") -> "Scores":
        """The videos of several scores, one after the other."""
        binary = [rows for part in parts for rows in part.binary]
        if any(part.classes is None for part in parts):
            return cls(binary, None)
        return cls(binary, [rows for part in parts for rows in part.classes or ()])

    def take(self, start: int, stop: int) -> "Scores":
        return Scores(
            self.binary[start:stop], None if self.classes is None else self.classes[start:stop]
        )


def crops_of(cfg: Config, store: Store, video: int) -> list[int]:
    """The crops a video is scored by: `eval.crop`, crop 0 where it has only that one, or all for
    the mean.
    """
    return crops_among(cfg, store.videos[video].crops)


def crops_among(cfg: Config, count: int) -> list[int]:
    """The same of `count` crops."""
    if cfg.eval.crop == "mean":
        return list(range(count))
    return [cfg.eval.crop if cfg.eval.crop < count else 0]


def smoothed(rows: Float[np.ndarray, "n ..."], width: int) -> Float[np.ndarray, "n ..."]:
    """The mean of each row and its neighbours, `width` in all (odd), fewer at the ends."""
    if width == 1:
        return rows
    sums = np.cumsum(np.pad(rows.astype(np.float64), [(1, 0)] + [(0, 0)] * (rows.ndim - 1)), 0)
    place = np.arange(len(rows))
    first, last = np.maximum(place - width // 2, 0), np.minimum(place + width // 2 + 1, len(rows))
    count = (last - first).reshape(-1, *[1] * (rows.ndim - 1))
    return ((sums[last] - sums[first]) / count).astype(rows.dtype)


def unpack(
    cfg: Config, store: Store, videos: Sequence[int], groups: Sequence[SlotScores]
) -> Scores:
    """One seed's windows put together again as one row a snippet: the mean over a video's crops,
    `finished`.
    """
    binary = _join(cfg, store, videos, [group.binary for group in groups])
    of_classes = [group.classes for group in groups if group.classes is not None]
    return finished(cfg, binary, _join(cfg, store, videos, of_classes) if of_classes else None)


def finished(cfg: Config, binary: list[np.ndarray], classes: list[np.ndarray] | None) -> Scores:
    """Some videos' scores after what the model's own program does to them (`finish`), and the mean
    over neighbours where `eval.smooth` asks for it.
    """
    finish = getattr(model(cfg), "finish", None)
    if finish is not None:
        binary = [finish(cfg, rows) for rows in binary]

    def smooth(videos: list[np.ndarray]) -> list[np.ndarray]:
        return [smoothed(rows, cfg.eval.smooth) for rows in videos]

    return Scores(smooth(binary), None if classes is None else smooth(classes))


def of_windows(cfg: Config, crops: Sequence[SlotScores], length: Int[np.ndarray, "N B"]) -> Scores:
    """One seed's scores of windows that count as a video each: all that is known of one when the
    window ends. `crops` are the windows of each crop; those of length 0 are left out.
    """

    def videos(of_crops: Sequence[Array | np.ndarray]) -> list[np.ndarray]:
        parts = np.stack([np.asarray(part) for part in of_crops])
        rows = parts.mean(axis=0, dtype=parts.dtype).reshape(-1, *parts.shape[3:])
        return [row[:n] for row, n in zip(rows, length.ravel(), strict=True) if n]

    of_classes = [crop.classes for crop in crops if crop.classes is not None]
    binary = videos([crop.binary for crop in crops])
    return finished(cfg, binary, videos(of_classes) if of_classes else None)


class Moment(NamedTuple):
    """A window of a video that ends when its last snippet has come, and what is scored then."""

    video: int
    place: int  # of the video, among those that are scored
    window: range
    scored: tuple[tuple[int, int], ...]  # (lookahead, snippet)


def moments(
    cfg: Config, store: Store, videos: Sequence[int], lookaheads: Sequence[int]
) -> list[Moment]:
    """The windows of T = `model.length` snippets that score every snippet of some videos at every
    lookahead, video after video, in the order of their ends; snippets keep their order too.

    A stream has no end, so models that are tested on whole videos (`eval.whole`) see T snippets as
    others do. Raises BadInput for a lookahead at which a snippet is in its window no more.
    """
    length, found = cfg.model.length, []
    for place, i in enumerate(videos):
        n = store.videos[i].snippets
        of_video: dict[range, list[tuple[int, int]]] = {}
        for lookahead in lookaheads:
            if lookahead >= length < n:
                raise BadInput(
                    f"a lookahead of {lookahead} leaves a snippet outside the {length} that are "
                    f"scored at once (model.length); give at most {length - 1}, or all"
                )
            for snippet in range(n):
                window = window_of(length, n, snippet, lookahead)
                of_video.setdefault(window, []).append((lookahead, snippet))
        windows = sorted(of_video, key=lambda window: window.stop)
        found += [Moment(i, place, window, tuple(of_video[window])) for window in windows]
    return found


def unscored(
    like: Scores, store: Store, videos: Sequence[int], lookaheads: Sequence[int]
) -> dict[int, Scores]:
    """Room for one seed's scores of some videos at every lookahead, by the heads of others."""
    counts = [store.videos[i].snippets for i in videos]

    def room(rows: list[np.ndarray]) -> list[np.ndarray]:
        return [np.empty((n, *rows[0].shape[1:]), rows[0].dtype) for n in counts]

    return {
        lookahead: Scores(room(like.binary), None if like.classes is None else room(like.classes))
        for lookahead in lookaheads
    }


def keep(into: Mapping[int, Scores], scores: Scores, moments: Sequence[Moment]) -> None:
    """Puts what one seed's windows score at some moments to its place."""
    for number, (_, place, window, scored) in enumerate(moments):
        for lookahead, snippet in scored:
            slot, found = snippet - window.start, into[lookahead]
            found.binary[place][snippet] = scores.binary[number][slot]
            if found.classes is not None and scores.classes is not None:
                found.classes[place][snippet] = scores.classes[number][slot]


def _join(
    cfg: Config,
    store: Store,
    videos: Sequence[int],
    groups: Sequence[Float[Array | np.ndarray, "_ _ _ ..."]],
) -> list[np.ndarray]:
    """Each video's rows [snippets, ...] from the slots of all windows.

    In a group, windows of T slots stand one after the other: a video's crops, each filling whole
    windows.
    """
    left = {
        slots.shape[2]: slots.reshape(-1, *slots.shape[2:]) for slots in map(np.asarray, groups)
    }
    of_videos = []
    for i in videos:
        n, crops = store.videos[i].snippets, len(crops_of(cfg, store, i))
        length = slots_of(cfg, n)
        count = crops * -(-n // length)
        own, left[length] = left[length][:count], left[length][count:]
        of_crops = own.reshape(crops, -1, *own.shape[2:])[:, :n]
        of_videos.append(of_crops.mean(axis=0, dtype=own.dtype))
    return of_videos


def selection_of_last(cfg: Config) -> str:
    """What a run's last weights count as: where the best weights are reloaded (`train.protocol`)
    these were chosen on the test videos.
    """
    return "test" if cfg.train.protocol == "reload_best" else "last"


@dataclasses.dataclass(frozen=True)
class FrameTruth:
    """What the test videos' snippets are judged against."""

    positive: np.ndarray  # [N] anomalous frames of each snippet
    frames: np.ndarray  # [N]
    segments: list[list[tuple[int, int, int]]]  # per video (class, start, end)
    edges: list[np.ndarray]  # per video [n + 1]
    of_abnormal: np.ndarray  # [N] whether the snippet's video has an anomaly


def frame_truth(store: Store, videos: Sequence[int]) -> FrameTruth:
    """`intervals_of` videos that can be judged by.

    Raises BadInput where they do not have frames of both kinds: there is no AUC then.
    """
    truth = intervals_of(store, videos)
    anomalous, total = int(truth.positive.sum()), int(truth.frames.sum())
    if not 0 < anomalous < total:
        unjudged = unjudged_sentence(store)
        raise BadInput(
            f"the {len(truth.edges)} test videos of {store.path} have {anomalous} anomalous frames "
            f"of {total}; nothing can be judged without frames of both kinds"
            + (f" ({unjudged})" if unjudged else "")
        )
    return truth


def judged_on(store: Store) -> tuple[list[int], FrameTruth]:
    """The store's test videos that can be judged and their truth; train videos need not be there.

    Raises BadInput where they do not have frames of both kinds.
    """
    videos = judged(store)
    return videos, frame_truth(store, videos)


def intervals_of(store: Store, videos: Sequence[int]) -> FrameTruth:
    """Reads the intervals of the given videos.

    The public evaluator calls a normal video's label 'A': on UCF-Crime that is no class of its
    list, on XD-Violence it is class 0 with the whole video as truth. Both are kept, for comparable
    mAP.
    """
    positive, edges, segments = [], [], []
    for i in videos:
        v = store.videos[i]
        edge = np.asarray(v.frame_edges)
        marked = np.zeros(v.frames, bool)
        for _, start, end in v.intervals:
            marked[start:end] = True
        positive.append(np.add.reduceat(marked.astype(np.int64), edge[:-1]))
        edges.append(edge)
        spans = [(store.classes.index(name), start, end) for name, start, end in v.intervals]
        whole = 0 if store.info["dataset"] == "xd" else -1
        segments.append(spans if store.classes[0] not in v.labels else [(whole, 0, v.frames)])
    none = [np.zeros(0, np.int64)]
    frames = np.concatenate([np.diff(e) for e in edges] or none)
    of_abnormal = np.concatenate(
        [np.full(len(p), p.any()) for p in positive] or [np.zeros(0, bool)]
    )
    return FrameTruth(np.concatenate(positive or none), frames, segments, edges, of_abnormal)


def frame_metrics(
    scores: Scores, truth: FrameTruth, selection: str = "test"
) -> dict[MetricName, float]:
    """Frame-level AUC and AP of one seed, fractions, by each head; head `max` is the better of the
    two, the paper's protocol. `selection` is what the names begin with.
    """
    metrics = {}
    for head in scores.heads():
        joined = np.concatenate(scores.head(head))
        auc = frame_auc(joined, truth.positive, truth.frames)
        ap = frame_ap(joined, truth.positive, truth.frames)
        metrics[MetricName(selection, head, "auc")] = auc
        metrics[MetricName(selection, head, "ap")] = ap
    return _with_max(metrics, selection)


def further_frame_metrics(
    scores: Scores, truth: FrameTruth, selection: str
) -> dict[MetricName, float]:
    """Two more frame-level figures of one seed, by each head and for `max`.

    ap_trapezoid: AP as the public programs of RTFM, UR-DMU, PEL4VAD and CLIP-TSA compute it.
    auc_abnormal: AUC over the frames of the anomalous test videos alone, what is left when telling
    videos apart is taken out; absent where these videos have no normal frame.
    """
    metrics = {}
    inside = truth.of_abnormal
    mixed = bool((truth.positive < truth.frames)[inside].any())
    for head in scores.heads():
        joined = np.concatenate(scores.head(head))
        metrics[MetricName(selection, head, "ap_trapezoid")] = frame_ap_trapezoid(
            joined, truth.positive, truth.frames
        )
        if mixed:
            metrics[MetricName(selection, head, "auc_abnormal")] = frame_auc(
                joined[inside], truth.positive[inside], truth.frames[inside]
            )
    return _with_max(metrics, selection)


def video_metrics(
    scores: Scores, abnormal: np.ndarray, selection: str = "val"
) -> dict[MetricName, float]:
    """Video-level AUC and AP of one seed, for V videos known by their label alone. `abnormal` [V]
    is 1 or 0. A video's score is its top-k mean, k = ⌊n/16⌋ + 1.
    """
    metrics = {}
    one = np.ones(len(abnormal))
    for head in scores.heads():
        video = np.array(
            [np.sort(s.astype(np.float64))[-(len(s) // 16 + 1) :].mean() for s in scores.head(head)]
        )
        auc = frame_auc(video, abnormal.astype(np.float64), one)
        ap = frame_ap(video, abnormal.astype(np.float64), one)
        metrics[MetricName(selection, head, "auc")] = auc
        metrics[MetricName(selection, head, "ap")] = ap
    return _with_max(metrics, selection)


def _with_max(metrics: dict[MetricName, float], selection: str) -> dict[MetricName, float]:
    best = {}
    for metric in dict.fromkeys(name.metric for name in metrics):
        values = [value for name, value in metrics.items() if name.metric == metric]
        best[MetricName(selection, "max", metric)] = max(values)
    return metrics | best


def class_metrics(
    scores: Scores, truth: FrameTruth, selection: str = "test"
) -> dict[MetricName, float]:
    """Fine-grained mAP of one seed at five IoUs and their mean, by the public evaluator's rules and
    by clean ones; empty without a class head.
    """
    if scores.classes is None:
        return {}
    metrics = {}
    protocols: dict[Literal["vadclip", "clean"], str] = {"vadclip": "map", "clean": "map_clean"}
    for protocol, metric in protocols.items():
        values = detection_map(scores.classes, truth.segments, list(IOUS), protocol, truth.edges)
        metrics[MetricName(selection, "class", metric)] = float(np.mean(values))
        for iou, value in zip(IOUS, values, strict=True):
            metrics[MetricName(selection, "class", f"{metric}@{iou}")] = value
    return metrics


NOT_JUDGED = (
    "there are no test videos: nothing is judged, and no weights can be selected by the test videos"
)
NAMED = 10  # videos that are left out and named on a line


def unjudged_sentence(store: Store) -> str | None:
    """Which test videos are left out of every metric, for the reader of a table; None where none
    is.
    """
    names = left_out(store)
    if not names:
        return None
    total = len(readable(store, "test"))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return (
        f"judged on {total - len(names)} of {total} test videos; it is not known where the "
        f"anomalies are in {', '.join(names[:NAMED])}{more}"
    )


@dataclasses.dataclass(frozen=True)
class Counts:
    """How many videos and frames stand behind a run's numbers."""

    train: int
    val: int
    test: int
    anomalous_frames: int  # of the test videos
    frames: int  # of the test videos
    unjudged: str | None = None  # `unjudged_sentence`

    def sentence(self) -> str:
        """For the reader of a run's table."""
        return f"{self.train} train, {self.val} val and {self.judged()}"

    def judged(self) -> str:
        """The same for a store that the run was not trained on."""
        if not self.test:
            return NOT_JUDGED
        share = f"{self.anomalous_frames:,} of {self.frames:,} frames anomalous"
        left_out = f"; {self.unjudged}" if self.unjudged else ""
        return f"{self.test} test videos; {share}{left_out}"


@dataclasses.dataclass(frozen=True)
class Videos:
    """The videos that a run is judged by: its test videos, then those set aside as val."""

    cfg: Config
    store: Store
    test: list[int]
    val: list[int]

    @cached_property
    def truth(self) -> FrameTruth:
        return frame_truth(self.store, self.test)

    @cached_property
    def val_abnormal(self) -> np.ndarray:
        videos, normal = self.store.videos, self.store.classes[0]
        return np.array([normal not in videos[i].labels for i in self.val], np.float64)

    def counts(self) -> Counts:
        """The videos and frames of a run on this store.

        Raises BadInput where the store has no train videos, as `data.split` does.
        """
        train, val, _ = split(self.cfg, self.store)
        if not self.test:
            return Counts(len(train), len(val), 0, 0, 0)
        positive, frames = self.truth.positive, self.truth.frames
        judged = len(self.test), int(positive.sum()), int(frames.sum())
        return Counts(len(train), len(val), *judged, unjudged_sentence(self.store))

    def windows(self) -> tuple[Windows, ...]:
        return windows(self.cfg, self.store, self._crops())

    def window_shapes(self) -> tuple[Windows, ...]:
        return window_shapes(self.cfg, self.store, self._crops())

    def _crops(self) -> list[tuple[int, int]]:
        return [(i, c) for i in self.test + self.val for c in crops_of(self.cfg, self.store, i)]

    def scores(self, groups: Sequence[SlotScores]) -> Scores:
        """One seed's scores of these videos from those of their windows."""
        return unpack(self.cfg, self.store, self.test + self.val, groups)

    def test_scores(self, scores: Scores) -> Scores:
        """The test videos' part of one seed's scores."""
        return scores.take(0, len(self.test))

    def val_scores(self, scores: Scores) -> Scores:
        """The val videos' part of one seed's scores."""
        return scores.take(len(self.test), len(self.test) + len(self.val))

    def judge(self, scores: Scores) -> dict[MetricName, float]:
        """What one seed's evaluation says: "test/…" at frame level, and, where videos are set
        aside, "val/…" at video level. The first part names the videos that are judged.
        """
        metrics = {}
        if self.test:
            metrics |= frame_metrics(self.test_scores(scores), self.truth, "test")
        if self.val:
            metrics |= video_metrics(self.val_scores(scores), self.val_abnormal, "val")
        return metrics

    def test_metrics(self, scores: Scores, selection: str) -> dict[MetricName, float]:
        """Every metric of one seed on the test videos, mAP included, for weights that were selected
        by `selection`: last, val or test. Empty where there are no test videos.
        """
        if not self.test:
            return {}
        test = self.test_scores(scores)
        frame_level = frame_metrics(test, self.truth, selection)
        further = further_frame_metrics(test, self.truth, selection)
        return frame_level | further | class_metrics(test, self.truth, selection)

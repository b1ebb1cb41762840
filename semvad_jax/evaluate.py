"""From parameters to metrics: snippet scores on the device for ONE seed, metrics on the host."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from semvad_jax.config import Config
from semvad_jax.data import windows
from semvad_jax.files import BadInput
from semvad_jax.metrics import detection_map, frame_ap, frame_auc
from semvad_jax.models import model
from semvad_jax.store import Store
from semvad_jax.types import Batch, Frozen, Windows

HEADS = ("binary", "class", "max")
IOUS = (0.1, 0.2, 0.3, 0.4, 0.5)


def score_windows(
    cfg: Config, frozen: Frozen, windows: Windows, params: PyTree
) -> tuple[Float[Array, "N B T"], Float[Array, "N B T C"] | None]:
    """Anomaly and class probabilities of every snippet slot, batch after batch of windows."""

    def batch_scores(window: Windows):
        size = window.length.shape[0]
        labels = jnp.zeros((size, len(cfg.data.classes)))
        batch = Batch(window.visual, window.captions, window.length, labels, jnp.ones(size))
        outputs = model(cfg).apply(cfg, params, frozen, batch)
        classes = outputs.class_logits
        return jax.nn.sigmoid(outputs.binary_logits), None if classes is None else jax.nn.softmax(
            classes
        )

    return jax.lax.map(batch_scores, windows)


@dataclasses.dataclass(frozen=True)
class Scores:
    """One seed's probabilities for the snippets of some videos."""

    binary: list[Float[np.ndarray, " _"]]  # one entry a video
    classes: list[Float[np.ndarray, "_ C"]] | None

    def head(self, name: str) -> list[Float[np.ndarray, " _"]]:
        """Anomaly scores by one head; the class head's is 1 − p(normal)."""
        if name == "binary":
            return self.binary
        assert self.classes is not None
        return [1 - p[:, 0] for p in self.classes]

    def heads(self) -> tuple[str, ...]:
        return ("binary",) if self.classes is None else ("binary", "class")

    def take(self, start: int, stop: int) -> "Scores":
        return Scores(
            self.binary[start:stop], None if self.classes is None else self.classes[start:stop]
        )


def crops_of(cfg: Config, store: Store, video: int) -> list[int]:
    """The crops a video is scored by: `eval.crop`, crop 0 where it has only that one, or all for
    the mean.
    """
    count = store.videos[video].crops
    if cfg.eval.crop == "mean":
        return list(range(count))
    return [cfg.eval.crop if cfg.eval.crop < count else 0]


def unpack(
    cfg: Config,
    store: Store,
    videos: Sequence[int],
    binary: Float[np.ndarray, "N B T"],
    classes: Float[np.ndarray, "N B T C"] | None,
) -> Scores:
    """One seed's windows put together again as one row a snippet, the mean over a video's crops."""
    steps = binary.shape[-1]
    rows = {
        "binary": binary.reshape(-1),
        "classes": None if classes is None else classes.reshape(-1, classes.shape[-1]),
    }
    found: dict[str, list[np.ndarray]] = {"binary": [], "classes": []}
    start = 0
    for i in videos:
        n, crops = store.videos[i].snippets, len(crops_of(cfg, store, i))
        span = -(-n // steps) * steps
        for name, values in rows.items():
            if values is not None:
                parts = values[start : start + crops * span].reshape(crops, span, *values.shape[1:])
                found[name].append(parts[:, :n].mean(axis=0, dtype=values.dtype))
        start += crops * span
    return Scores(found["binary"], None if classes is None else found["classes"])


@dataclasses.dataclass(frozen=True)
class FrameTruth:
    """What the test videos' snippets are judged against."""

    positive: np.ndarray  # [N] anomalous frames of each snippet
    frames: np.ndarray  # [N]
    segments: list[list[tuple[int, int, int]]]  # per video (class, start, end)
    edges: list[np.ndarray]  # per video [n + 1]


def frame_truth(store: Store, videos: Sequence[int]) -> FrameTruth:
    """Reads the intervals of the given videos.

    The public evaluator calls a normal video's label 'A': on UCF-Crime that is no class of its
    list, on XD-Violence it is class 0 with the whole video as truth. Both are kept, for comparable
    mAP.

    Raises BadInput where the videos do not have frames of both kinds: there is no AUC then.
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
    frames = np.concatenate([np.diff(e) for e in edges]) if edges else np.zeros(0, np.int64)
    anomalous, total = sum(int(p.sum()) for p in positive), int(frames.sum())
    if not 0 < anomalous < total:
        raise BadInput(
            f"the {len(positive)} test videos of {store.path} have {anomalous} anomalous frames of "
            f"{total}; nothing can be judged without frames of both kinds"
        )
    return FrameTruth(np.concatenate(positive), frames, segments, edges)


def frame_metrics(scores: Scores, truth: FrameTruth) -> dict[str, float]:
    """Frame-level AUC and AP, `{"head/metric": fraction}`; head `max` is the better of the two, the
    paper's protocol.
    """
    found = {}
    for head in scores.heads():
        joined = np.concatenate(scores.head(head))
        found[f"{head}/auc"] = frame_auc(joined, truth.positive, truth.frames)
        found[f"{head}/ap"] = frame_ap(joined, truth.positive, truth.frames)
    return _with_max(found)


def video_metrics(scores: Scores, abnormal: np.ndarray) -> dict[str, float]:
    """Video-level AUC and AP of videos known by label alone; a video's score is its top-k mean, k =
    ⌊n/16⌋ + 1.
    """
    found = {}
    one = np.ones(len(abnormal))
    for head in scores.heads():
        video = np.array(
            [np.sort(s.astype(np.float64))[-(len(s) // 16 + 1) :].mean() for s in scores.head(head)]
        )
        found[f"{head}/auc"] = frame_auc(video, abnormal.astype(np.float64), one)
        found[f"{head}/ap"] = frame_ap(video, abnormal.astype(np.float64), one)
    return _with_max(found)


def _with_max(found: dict[str, float]) -> dict[str, float]:
    best = {
        f"max/{m}": max(f for name, f in found.items() if name.endswith(m)) for m in ("auc", "ap")
    }
    return found | best


def class_metrics(scores: Scores, truth: FrameTruth) -> dict[str, float]:
    """Fine-grained mAP at five IoUs and their mean, by the public evaluator's rules and by clean
    ones.
    """
    if scores.classes is None:
        return {}
    found = {}
    protocols: dict[Literal["vadclip", "clean"], str] = {"vadclip": "map", "clean": "map_clean"}
    for protocol, name in protocols.items():
        values = detection_map(scores.classes, truth.segments, list(IOUS), protocol, truth.edges)
        found[f"class/{name}"] = float(np.mean(values))
        found |= {f"class/{name}@{iou}": value for iou, value in zip(IOUS, values, strict=True)}
    return found


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

    def windows(self) -> Windows:
        crops = [(i, c) for i in self.test + self.val for c in crops_of(self.cfg, self.store, i)]
        return windows(self.cfg, self.store, crops)

    def scores(
        self, binary: Float[np.ndarray, "N B T"], classes: Float[np.ndarray, "N B T C"] | None
    ) -> Scores:
        """One seed's scores of these videos from those of their windows."""
        return unpack(self.cfg, self.store, self.test + self.val, binary, classes)

    def judge(self, scores: Scores) -> dict[str, float]:
        """`{"test/head/metric": f, "val/…": f}` of one seed; val by video labels, where there is
        any.
        """
        tests = len(self.test)
        found = {"test": frame_metrics(scores.take(0, tests), self.truth)}
        if self.val:
            val = scores.take(tests, tests + len(self.val))
            found["val"] = video_metrics(val, self.val_abnormal)
        return {f"{part}/{name}": f for part, values in found.items() for name, f in values.items()}

    def test_metrics(self, scores: Scores) -> dict[str, float]:
        """`{"head/metric": f}` of one seed on the test videos, mAP included."""
        test = scores.take(0, len(self.test))
        return frame_metrics(test, self.truth) | class_metrics(test, self.truth)

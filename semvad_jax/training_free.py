"""Training-free systems: scores that lie beside a store, judged as a run's are, without seeds.

featurize/run.py --stages scores writes STORE/scores_NAME.npy, float32 [N], a score a snippet in the
order of caption_embedding.npy, and STORE/scores_NAME.json beside it (docs/formats.md).
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from semvad_jax import evaluate, statistics
from semvad_jax.data import judged
from semvad_jax.evaluate import Counts, FrameTruth, Scores, unjudged_sentence
from semvad_jax.files import BadInput, read_json, require, sha256, write
from semvad_jax.metrics import MetricName, frame_ap_trapezoid
from semvad_jax.report.inputs import differing
from semvad_jax.report.summary import COLUMNS
from semvad_jax.report.tables import plain_console, table
from semvad_jax.statistics import TAILS, VIDEO_RESAMPLES, Interval, VideoScores
from semvad_jax.store import Store
from semvad_jax.store.format import DAMAGED, rows_of, starts_of
from semvad_jax.store.locate import open_store
from semvad_jax.store.scorers import scores_file

OUT = Path("runs/scorers")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
SELECTION, HEAD = "last", "binary"  # as a run's names of metrics begin: nothing is selected


@dataclass(frozen=True)
class _Written:
    """What is read of a scores_NAME.json."""

    scorer: str
    scored: list[str]  # splits
    store_sha256: dict[str, str]
    sha256: str
    answers: dict[str, int] = field(default_factory=dict)
    producer: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """Which model's scores they are, a language model's by the name of its folder; and by what
        LAVAD's "nearest" goes.
        """
        asked = self.producer.get("llm", self.producer)
        name = str(asked.get("model", "not told")) if isinstance(asked, dict) else "not told"
        nearest = self.producer.get("nearest")
        return f"{name}; nearest by {nearest}" if nearest else name


@dataclass(frozen=True)
class Judged:
    """A training-free system's figures on a store's test videos; fractions in [0, 1]."""

    scorer: str
    store: Store
    model: str
    counts: Counts
    answers: dict[str, int]  # of a language model: asked, not read, …
    metrics: dict[MetricName, float]
    intervals: dict[MetricName, Interval]  # 95 %, bootstrap over the test videos


class Figure(msgspec.Struct, frozen=True):
    """A metric, a fraction, with its 95 % interval."""

    value: float
    interval: Interval


class ScorerFile(msgspec.Struct, frozen=True):
    """scorer.json: what a training-free system was judged to be worth on a store."""

    scorer: str
    store: str
    dataset: str
    unjudged: str | None
    answers: dict[str, int]
    metrics: dict[str, Figure]  # by `MetricName`
    model: str = "not told"
    judged: str = ""  # how many videos and frames stand behind it
    inputs_not_the_papers: list[str] = []

    @property
    def unread(self) -> str | None:
        """How many answers could not be read, in a sentence; None where no model was asked."""
        if not (asked := self.answers.get("asked")):
            return None
        unread = self.answers.get("not read", 0)
        return f"{unread:,} of {asked:,} answers could not be read and were interpolated"


def read_judged(path: Path) -> ScorerFile:
    """A scorer.json, by an earlier version too. Raises BadInput for another form."""
    return read_json(path, ScorerFile, "is no judgement of a scorer; run --scorer again to make it")


def home(scorer: str, store: Path) -> Path:
    """Where the judgement goes unless another folder is named; --results finds it there."""
    return OUT / f"{store.name}-{scorer}"


def tell(scorer: str, data: str, out: Path | None) -> None:
    """Prints `judge`'s figures, and writes them to OUT/scorer.json, by default below `home`."""
    found = judge(scorer, open_store(data))
    kept = ScorerFile(
        scorer=scorer,
        store=str(found.store.path),
        dataset=found.store.info["dataset"],
        unjudged=found.counts.unjudged,
        answers=found.answers,
        metrics={
            str(name): Figure(value, found.intervals[name]) for name, value in found.metrics.items()
        },
        model=found.model,
        judged=found.counts.judged(),
        inputs_not_the_papers=list(differing(found.store)),
    )
    console = plain_console()
    console.print(f"\n{scorer} on {kept.dataset}, training-free; test videos\nby {kept.model}")
    console.print(kept.judged)
    if kept.unread:
        console.print(kept.unread)
    rows = table("per cent", "test videos", "95 % interval over videos")
    for name, value in found.metrics.items():
        low, high = (f"{100 * end:.2f}" for end in found.intervals[name])
        rows.add_row(COLUMNS[name.metric], f"{100 * value:.2f}", f"{low} to {high}")
    console.print(rows)
    out = out or home(scorer, found.store.path)
    out.mkdir(parents=True, exist_ok=True)
    write(out / "scorer.json", msgspec.json.format(msgspec.json.encode(kept), indent=2))
    console.print(f"see {out / 'scorer.json'}")


def judge(scorer: str, store: Store) -> Judged:
    """Frame AUC, AP, AP by the trapezoid and AUC within anomalous videos, with intervals.

    Raises BadInput as `read` does, and where the store has no test videos with frames of both
    kinds.
    """
    rows, written = read(scorer, store)
    videos = judged(store)
    require(bool(videos), f"{store.path} has no test videos, so there is nothing to judge.")
    truth = evaluate.frame_truth(store, videos)
    starts = starts_of(rows_of("caption_embedding.npy", store.videos))
    scores = Scores([rows[starts[i] : starts[i + 1]] for i in videos], None)
    found = evaluate.frame_metrics(scores, truth, SELECTION)
    found |= evaluate.further_frame_metrics(scores, truth, SELECTION)
    metrics = {name: value for name, value in found.items() if name.head == HEAD}
    intervals = _intervals(np.concatenate(scores.binary), truth)
    positive, frames = int(truth.positive.sum()), int(truth.frames.sum())
    return Judged(
        scorer=scorer,
        store=store,
        model=written.model,
        counts=Counts(0, 0, len(videos), positive, frames, unjudged_sentence(store)),
        answers=written.answers,
        metrics=metrics,
        intervals={name: intervals[name.metric] for name in metrics},
    )


def read(scorer: str, store: Store) -> tuple[np.ndarray, _Written]:
    """The scores [N] of `scorer` beside a store, float32, and what is written of them.

    Raises BadInput for a missing or damaged file, scores of another store or of an earlier state of
    this one, another length or kind of numbers, and a scored snippet without a finite score.
    """
    require(bool(NAME.fullmatch(scorer)), f"--scorer {scorer!r} is no name of a scorer.")
    path = scores_file(store.path, scorer)
    again = f"make it with featurize/run.py --stages scores --scorer {scorer}"
    for file in (path, path.with_suffix(".json")):
        require(file.is_file(), f"{file} is missing; {again}.")
    refusal = f"does not describe a scorer's scores; {again}"
    written = read_json(path.with_suffix(".json"), _Written, refusal)
    require(written.scorer == scorer, f"{path} holds scores of {written.scorer}; {again}.")
    own = store.info["sha256"]
    other = [name for name in own if written.store_sha256.get(name) != own[name]]
    require(
        not other,
        f"{path} was made from another store than {store.path}: {', '.join(other)} differs; "
        f"{again}.",
    )
    require(sha256(path) == written.sha256, f"{path} differs from its checksum; {again}.")
    try:
        rows = np.load(path, allow_pickle=False)
    except DAMAGED:
        raise BadInput(f"{path} is not an array of plain numbers; {again}.") from None
    starts = starts_of(rows_of("caption_embedding.npy", store.videos))
    require(
        rows.dtype == np.float32 and rows.shape == (starts[-1],),
        f"{path} is {rows.dtype} {list(rows.shape)}, not float32 {[int(starts[-1])]}; {again}.",
    )
    require("test" in written.scored, f"{path} has no scores of test videos; {again}.")
    for i, video in enumerate(store.videos):
        finite = np.isfinite(rows[starts[i] : starts[i + 1]]).all()
        require(
            bool(finite) or video.split not in written.scored,
            f"{path} holds a score of {video.video} that is not finite; {again}.",
        )
    return rows, written


def _intervals(scores: np.ndarray, truth: FrameTruth) -> dict[str, Interval]:
    """95 % percentile intervals over the choice of test videos, by metric; videos with and without
    an anomaly are drawn apart (`statistics.resample_videos`).
    """
    video = np.repeat(np.arange(len(truth.edges)), [len(edge) - 1 for edge in truth.edges])
    abnormal = np.bincount(video, truth.positive) > 0
    drawn = statistics.resample_videos(abnormal, VIDEO_RESAMPLES)
    side = VideoScores(scores[None], truth.positive, truth.frames, video)
    counts = _of_both_kinds(side, drawn)
    auc, ap = statistics.resampled_metrics(scores, *side[1:], counts)
    trapezoid = [
        frame_ap_trapezoid(scores, truth.positive * times[video], truth.frames * times[video])
        for times in counts
    ]
    resampled = {"auc": auc, "ap": ap, "ap_trapezoid": np.array(trapezoid)}
    inside = truth.of_abnormal
    if (truth.positive < truth.frames)[inside].any():
        place = (np.cumsum(abnormal) - 1)[video[inside]]  # among the anomalous videos
        side = VideoScores(
            scores[None, inside], truth.positive[inside], truth.frames[inside], place
        )
        counts = _of_both_kinds(side, drawn[:, abnormal])
        resampled["auc_abnormal"], _ = statistics.resampled_metrics(
            scores[inside], *side[1:], counts
        )
    ends = {metric: np.quantile(values, TAILS) for metric, values in resampled.items()}
    return {metric: (float(low), float(high)) for metric, (low, high) in ends.items()}


def _of_both_kinds(side: VideoScores, counts: np.ndarray) -> np.ndarray:
    """The resamples [R, V] that have anomalous and normal frames; of the others there is no AUC."""
    anomalous = np.bincount(side.video, side.positive)
    normal = np.bincount(side.video, side.frames - side.positive)
    return counts[(counts @ anomalous > 0) & (counts @ normal > 0)]

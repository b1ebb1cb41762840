"""Two runs side by side on the same test videos: tables, and a sentence on what may be concluded.

The last step's weights are compared, by each head that both runs have (the binary head alone where
their class lists differ). Where the best weights were reloaded (train.protocol=reload_best) those
selected on the test videos are compared, since there are no others. A claim rests on the unpaired
statistics alone. The interval of paired seeds is shown where the runs share them, for ablations
that also share initial weights; it decides nothing, so that nobody chooses a test after seeing
both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from semvad_jax import checkpoint, evaluate, metrics, run, seeds, statistics
from semvad_jax.data import judged as judged_videos
from semvad_jax.files import BadInput
from semvad_jax.report import findings
from semvad_jax.report.summary import NOTES, mean_and_sd, points
from semvad_jax.report.tables import plain_console
from semvad_jax.statistics import Interval, VideoScores
from semvad_jax.store import Store, Video
from semvad_jax.store.locate import open_store

SIGNIFICANT = 0.05  # p of Welch's test, beside 95 % intervals


@dataclass(frozen=True)
class Judged:
    """A run's scores of its test videos."""

    name: str
    store: Store
    videos: list[int]  # the test videos, as indices into the store's
    pairs: list[tuple[int, int]]  # (weight seed, data seed)
    scores: list[evaluate.Scores]  # an entry a seed, each with an entry a test video
    metric: str  # the one that selects

    def video(self, k: int) -> Video:
        """The k-th test video."""
        return self.store.videos[self.videos[k]]

    def heads(self) -> tuple[str, ...]:
        """The heads that the run's model has."""
        return self.scores[0].heads()

    def head(self, name: str, order: Sequence[int]) -> VideoScores:
        """All seeds' scores by one head, the test videos in the given order."""
        truth = evaluate.frame_truth(self.store, [self.videos[k] for k in order])
        rows = []
        for scores in self.scores:
            of_videos = scores.head(name)
            rows.append(np.concatenate([of_videos[k] for k in order]))
        counts = [self.video(k).snippets for k in order]
        video = np.repeat(np.arange(len(order)), counts)
        return VideoScores(np.stack(rows), truth.positive, truth.frames, video)


@dataclass(frozen=True)
class Difference:
    """Two runs' values of one metric by one head, a value a seed, and what chance makes of A − B.

    None stands where the seeds are too few, for `paired` also where the runs' seeds differ.
    """

    head: str
    metric: str
    a: list[float]
    b: list[float]
    paired: Interval | None  # t interval over the seeds that the runs share
    over_seeds: Interval | None  # bootstrap, the runs' seeds drawn apart
    welch: float | None  # p of Welch's test
    over_videos: Interval  # bootstrap over the test videos

    @property
    def mean(self) -> float:
        """The mean of A minus the mean of B, a fraction."""
        return float(np.mean(self.a) - np.mean(self.b))


def compare(run_a: Path, run_b: Path) -> None:
    """Prints both runs' frame metrics, their differences with intervals, and the conclusions.

    Raises BadInput where one is no run, and where they were judged on other videos or other truth.
    """
    protocols = {checkpoint.read_config(path).train.protocol for path in (run_a, run_b)}
    selection = "test" if "reload_best" in protocols else "last"
    a, b = judged(run_a, selection), judged(run_b, selection)
    _print(plain_console(), a, b, selection, differences(a, b))


def captions_exchanged(path: Path, data: str) -> None:
    """Prints what a run loses, or gains, where other captions of its test videos are given to it:
    its last weights on the store at `data` beside those on its own, on the videos of both.

    Raises BadInput where it has no test video of its own there.
    """
    cfg, frozen, meta = checkpoint.read(path)
    own, other = run.own_store(path, cfg, meta), open_store(data)
    weights, _ = checkpoint.last_weights(path, cfg, meta)
    there = {other.videos[i].video for i in judged_videos(other)}
    here = {own.videos[i].video for i in judged_videos(own)}
    if not there & here:
        raise BadInput(f"{data} has none of the test videos of {own.path}; give captions of these")
    sides = []
    for features, captions in ((own, "its own captions"), (other, f"those of {data}")):
        videos = [i for i in judged_videos(features) if features.videos[i].video in there & here]
        scores = seeds.score_videos(cfg, frozen, weights, features, videos)
        name = f"{path} with {captions}"
        sides.append(Judged(name, features, videos, meta.pairs, scores, cfg.eval.metric))
    selection = evaluate.selection_of_last(cfg)
    a, b = sides
    _print(plain_console(), a, b, selection, differences(a, b))


def judged(path: Path, selection: str) -> Judged:
    """Restores a run and scores the test videos of its store, by the weights that `selection` names
    (last, val or test).
    """
    program, chunks, meta, _ = run.restore(path)
    weights = [(c if selection == "last" else c.best[selection]).weights for c in chunks]
    return Judged(
        name=str(path),
        store=program.store,
        videos=program.videos.test,
        pairs=meta.pairs,
        scores=[program.videos.test_scores(scores) for scores in program.scores(weights)],
        metric=program.cfg.eval.metric,
    )


def differences(a: Judged, b: Judged) -> list[Difference]:
    """AUC and AP by every head that both runs have. Raises BadInput as `compare` does."""
    order = same_videos(a, b)
    heads = [head for head in a.heads() if head in b.heads()]
    if a.store.classes != b.store.classes:
        heads = ["binary"]
    rows = []
    for head in heads:
        of_a, of_b = a.head(head, range(len(order))), b.head(head, order)
        over_videos = statistics.video_bootstrap(of_a, of_b)
        for metric in ("auc", "ap"):
            x, y = _values(of_a, metric), _values(of_b, metric)
            difference = Difference(
                head=head,
                metric=metric,
                a=x,
                b=y,
                paired=statistics.paired_difference(x, y)[1] if a.pairs == b.pairs else None,
                over_seeds=statistics.bootstrap_difference(x, y),
                welch=statistics.welch(x, y),
                over_videos=over_videos[metric],
            )
            rows.append(difference)
    return rows


def _values(side: VideoScores, metric: str) -> list[float]:
    """Frame AUC or AP of each seed."""
    if metric == "auc":
        return [metrics.frame_auc(row, side.positive, side.frames) for row in side.scores]
    return [metrics.frame_ap(row, side.positive, side.frames) for row in side.scores]


def same_videos(a: Judged, b: Judged) -> list[int]:
    """Which of B's test videos is A's first, second, …: indices into B's, in A's order.

    Raises BadInput that names the first video which only one of them has, or whose frames or
    anomalous frames differ. How it is cut into snippets, and what its classes are called, may.
    """
    fix = "compare runs that were judged on the same test videos and truth"
    of_a = {a.video(k).video: k for k in range(len(a.videos))}
    of_b = {b.video(k).video: k for k in range(len(b.videos))}
    _refuse_missing(of_a, of_b, a, b, fix)
    _refuse_missing(of_b, of_a, b, a, fix)
    for name, k in of_a.items():
        x, y = a.video(k), b.video(of_b[name])
        if x.frames != y.frames:
            raise BadInput(
                f"test video {name} has {x.frames} frames in {a.store.path} and {y.frames} in "
                f"{b.store.path}; {fix}"
            )
        if not np.array_equal(_marked(x), _marked(y)):
            raise BadInput(
                f"test video {name} has other anomalous frames in {a.store.path} than in "
                f"{b.store.path}; {fix}"
            )
    return [of_b[name] for name in of_a]


def _refuse_missing(
    of_one: Mapping[str, int], of_other: Mapping[str, int], one: Judged, other: Judged, fix: str
) -> None:
    """Raises BadInput where the other run lacks one of this run's test videos."""
    for name in of_one:
        if name not in of_other:
            raise BadInput(
                f"test video {name} is in {one.store.path}, of {one.name}, and not in "
                f"{other.store.path}, of {other.name}; {fix}"
            )


def _marked(video: Video) -> np.ndarray:
    """[frames], whether each frame is anomalous."""
    marked = np.zeros(video.frames, dtype=bool)
    for _, start, end in video.intervals:
        marked[start:end] = True
    return marked


def conclusion(name_a: str, name_b: str, difference: Difference, videos: int) -> str:
    """What may be concluded from one row: "RUN_A lies 1.20 points above RUN_B in … : …"."""
    better, worse = name_a, name_b
    if difference.mean < 0:  # told from the better run's side
        better, worse, difference = name_b, name_a, _turned(difference)
    intervals = f"over the {videos} test videos {points(difference.over_videos)}"
    if difference.over_seeds is not None:
        intervals = f"over seeds {points(difference.over_seeds)}, {intervals}"
    fact = (
        f"{better} lies {100 * difference.mean:.2f} points above {worse} in frame "
        f"{difference.metric.upper()}, {difference.head} head (95 % intervals: {intervals})"
    )
    return f"{fact}: {_verdict(difference, better, videos)}."


def _turned(difference: Difference) -> Difference:
    """B − A in place of A − B."""

    def turned(interval: Interval) -> Interval:
        return -interval[1], -interval[0]

    return replace(
        difference,
        a=difference.b,
        b=difference.a,
        paired=None if difference.paired is None else turned(difference.paired),
        over_seeds=None if difference.over_seeds is None else turned(difference.over_seeds),
        over_videos=turned(difference.over_videos),
    )


def _verdict(difference: Difference, better: str, videos: int) -> str:
    """What the intervals of a difference that is not below 0 allow one to say."""
    seeds, over_videos, p = difference.over_seeds, difference.over_videos, difference.welch
    on_videos = over_videos[0] > 0
    if seeds is None or p is None:
        if min(len(difference.a), len(difference.b)) == 1:
            few = "one seed says"
        elif p is None:
            few = "seeds that do not vary say"
        else:
            few = "so few seeds say"
        if on_videos:
            return f"{few} nothing about other seeds; these weights differ on other such videos too"
        return f"{few} nothing about other seeds, and on other videos it may not hold"
    if (seeds[0] > 0) != (p < SIGNIFICANT):
        return (
            f"the bootstrap over seeds and Welch's test (p = {p:.3f}) disagree, so nothing is "
            "concluded"
        )
    if seeds[0] > 0:
        if on_videos:
            return (
                f"{better} is better, with other seeds on these videos and with these seeds on "
                "other such videos"
            )
        return f"the seeds differ, but with {videos} videos it may not hold on other videos"
    if on_videos:
        return "no evidence across seeds; these weights differ on other such videos too"
    most = 100 * max(abs(end) for end in (*seeds, *over_videos))
    return f"no evidence of a difference; up to {most:.2f} points either way are not ruled out"


def _print(
    console: Console, a: Judged, b: Judged, selection: str, rows: Sequence[Difference]
) -> None:
    console.print(f"\nA = {a.name}, B = {b.name}; {NOTES[selection]}, {len(a.videos)} test videos")
    console.print("per cent: mean ± SD over seeds")
    table = _table(f"A (n = {len(a.pairs)})", f"B (n = {len(b.pairs)})", "A − B")
    for row in rows:
        of_a, of_b = mean_and_sd(findings.spread(row.a)), mean_and_sd(findings.spread(row.b))
        table.add_row(f"{row.head} {row.metric.upper()}", of_a, of_b, f"{100 * row.mean:+.2f}")
    console.print(table)
    console.print("A − B, points: 95 % bootstrap intervals over seeds and over test videos")
    paired = a.pairs == b.pairs
    table = _table("over seeds", "Welch p", *(["paired seeds, t"] if paired else []), "over videos")
    for row in rows:
        cells = [_interval(row.over_seeds), _p(row.welch)]
        if paired:
            cells.append(_interval(row.paired))
        table.add_row(f"{row.head} {row.metric.upper()}", *cells, points(row.over_videos))
    console.print(table)
    console.print("Nothing here is corrected for the number of rows.")
    for row in rows:
        if row.metric in (a.metric, b.metric):
            console.print(f"\n{conclusion(a.name, b.name, row, len(a.videos))}")
    if selection == "test":
        console.print("\nThe weights were selected on these very videos (protocol reload_best).")


def _interval(interval: Interval | None) -> str:
    return "–" if interval is None else points(interval)


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("head", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"

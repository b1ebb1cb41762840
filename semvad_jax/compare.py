"""Two runs side by side on the same test videos: tables, and a sentence on what may be concluded.

The last step's weights are compared, by each head that both runs have (the binary head alone where
their class lists differ). Where the best weights were reloaded (train.protocol=reload_best) those
selected on the test videos are compared, since there are no others. A claim rests on the unpaired
statistics alone. The interval of paired seeds is shown where the runs share them, for ablations
that also share initial weights; it decides nothing, so that nobody chooses a test after seeing
both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from semvad_jax import checkpoint, evaluate, metrics, run, statistics
from semvad_jax.files import BadInput
from semvad_jax.report import findings
from semvad_jax.report.summary import NOTES, mean_and_sd, points
from semvad_jax.statistics import Interval, VideoScores
from semvad_jax.store import Store, Video

SIGNIFICANT = 0.05  # p of Welch's test, beside 95 % intervals


@dataclass(frozen=True)
class Judged:
    """A run's scores of its test videos."""

    name: str
    store: Store
    videos: list[int]
    pairs: list[tuple[int, int]]  # (weight seed, data seed)
    scores: list[evaluate.Scores]  # an entry a seed
    metric: str  # the one that selects

    def video(self, place: int) -> Video:
        return self.store.videos[self.videos[place]]

    def heads(self) -> tuple[str, ...]:
        return self.scores[0].heads()

    def head(self, name: str, order: Sequence[int]) -> VideoScores:
        """All seeds' scores by one head, the videos in the given order of places."""
        truth = evaluate.frame_truth(self.store, [self.videos[place] for place in order])
        rows = [np.concatenate([s.head(name)[place] for place in order]) for s in self.scores]
        counts = [self.video(place).snippets for place in order]
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
    paired: Interval | None
    over_seeds: Interval | None
    welch: float | None
    over_videos: Interval

    @property
    def mean(self) -> float:
        return float(np.mean(self.a) - np.mean(self.b))


def compare(run_a: Path, run_b: Path) -> None:
    """Prints both runs' frame metrics, their differences with intervals, and the conclusions.

    Raises BadInput where one is no run, and where they were judged on other videos or other truth.
    """
    protocols = {checkpoint.read_config(path).train.protocol for path in (run_a, run_b)}
    selection = "test" if "reload_best" in protocols else "last"
    a, b = judged(run_a, selection), judged(run_b, selection)
    _print(Console(), a, b, selection, differences(a, b))


def judged(path: Path, selection: str) -> Judged:
    """Restores a run and scores the test videos of its store."""
    program, state, meta, _ = run.restore(path)
    params = state.params if selection == "last" else state.best[selection].params
    tests = len(program.videos.test)
    return Judged(
        name=str(path),
        store=program.store,
        videos=program.videos.test,
        pairs=meta.pairs,
        scores=[scores.take(0, tests) for scores in program.scores(params)],
        metric=program.cfg.eval.metric,
    )


def differences(a: Judged, b: Judged) -> list[Difference]:
    """AUC and AP by every head that both runs have. Raises BadInput as `compare` does."""
    order = same_videos(a, b)
    heads = [head for head in a.heads() if head in b.heads()]
    if a.store.classes != b.store.classes:
        heads = ["binary"]
    found = []
    for head in heads:
        sides = a.head(head, range(len(order))), b.head(head, order)
        over_videos = statistics.video_bootstrap(*sides)
        for metric, f in (("auc", metrics.frame_auc), ("ap", metrics.frame_ap)):
            x, y = ([f(s, side.positive, side.frames) for s in side.scores] for side in sides)
            paired = statistics.paired_difference(x, y)[1] if a.pairs == b.pairs else None
            over_seeds = statistics.bootstrap_difference(x, y)
            tests = paired, over_seeds, statistics.welch(x, y), over_videos[metric]
            found.append(Difference(head, metric, x, y, *tests))
    return found


def same_videos(a: Judged, b: Judged) -> list[int]:
    """Where B has A's test videos, in A's order.

    Raises BadInput that names the first video which only one of them has, or whose frames or
    anomalous frames differ. How it is cut into snippets, and what its classes are called, may.
    """
    fix = "compare runs that were judged on the same test videos and truth"
    places = {b.video(place).video: place for place in range(len(b.videos))}
    names = [a.video(place).video for place in range(len(a.videos))]
    for one, other, missing in (
        (a, b, [name for name in names if name not in places]),
        (b, a, [name for name in places if name not in set(names)]),
    ):
        if missing:
            raise BadInput(
                f"test video {missing[0]} is in {one.store.path}, of {one.name}, and not in "
                f"{other.store.path}, of {other.name}; {fix}"
            )
    for place, name in enumerate(names):
        x, y = a.video(place), b.video(places[name])
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
    return [places[name] for name in names]


def _marked(video: Video) -> np.ndarray:
    marked = np.zeros(video.frames, dtype=bool)
    for _, start, end in video.intervals:
        marked[start:end] = True
    return marked


def conclusion(name_a: str, name_b: str, found: Difference, videos: int) -> str:
    """What may be concluded from one row: "RUN_A lies 1.20 points above RUN_B in … : …"."""
    better, worse, sign = (name_a, name_b, 1) if found.mean >= 0 else (name_b, name_a, -1)

    def turned(interval: Interval) -> Interval:
        return interval if sign > 0 else (-interval[1], -interval[0])

    over_videos = turned(found.over_videos)
    seeds = None if found.over_seeds is None else turned(found.over_seeds)
    told = f"over the {videos} test videos {points(over_videos)}"
    if seeds is not None:
        told = f"over seeds {points(seeds)}, {told}"
    fact = (
        f"{better} lies {100 * abs(found.mean):.2f} points above {worse} in frame "
        f"{found.metric.upper()}, {found.head} head (95 % intervals: {told})"
    )
    return f"{fact}: {_verdict(found, better, seeds, over_videos, videos)}."


def _verdict(
    found: Difference, better: str, seeds: Interval | None, over_videos: Interval, videos: int
) -> str:
    on_videos = over_videos[0] > 0
    if seeds is None or found.welch is None:
        one = min(len(found.a), len(found.b)) == 1
        few = "one seed says" if one else "so few seeds say"
        if not one and found.welch is None:
            few = "seeds that do not vary say"
        if on_videos:
            return f"{few} nothing about other seeds; these weights differ on other such videos too"
        return f"{few} nothing about other seeds, and on other videos it may not hold"
    if (seeds[0] > 0) != (found.welch < SIGNIFICANT):
        return (
            f"the bootstrap over seeds and Welch's test (p = {found.welch:.3f}) disagree, so "
            "nothing is concluded"
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
    console: Console, a: Judged, b: Judged, selection: str, found: Sequence[Difference]
) -> None:
    console.print(f"\nA = {a.name}, B = {b.name}; {NOTES[selection]}, {len(a.videos)} test videos")
    console.print("per cent: mean ± SD over seeds")
    table = _table(f"A (n = {len(a.pairs)})", f"B (n = {len(b.pairs)})", "A − B")
    for d in found:
        sides = mean_and_sd(findings.spread(d.a)), mean_and_sd(findings.spread(d.b))
        cells = *sides, f"{100 * d.mean:+.2f}"
        table.add_row(f"{d.head} {d.metric.upper()}", *cells)
    console.print(table)
    console.print("A − B, points: 95 % bootstrap intervals over seeds and over test videos")
    same = [] if a.pairs != b.pairs else ["paired seeds, t"]
    table = _table("over seeds", "Welch p", *same, "over videos")
    for d in found:
        cells = ["–" if d.over_seeds is None else points(d.over_seeds), _p(d.welch)]
        cells += ["–" if d.paired is None else points(d.paired)] * len(same)
        table.add_row(f"{d.head} {d.metric.upper()}", *cells, points(d.over_videos))
    console.print(table)
    console.print("Nothing here is corrected for the number of rows.")
    for d in found:
        if d.metric in (a.metric, b.metric):
            console.print(f"\n{conclusion(a.name, b.name, d, len(a.videos))}")
    if selection == "test":
        console.print("\nThe weights were selected on these very videos (protocol reload_best).")


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

"""What a run's numbers say, each statistic computed in one place.

Everything here is a pure function of numbers and prints nothing. The console (report/summary.py), a
run's page (report/page.py) and the studies' tables render what these functions return. All values
are fractions in [0, 1], as in summary.json; a difference of two is a fraction too, and whoever
prints it in points multiplies it by 100.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from semvad_jax.metrics import MetricName
from semvad_jax.statistics import Interval, expected_maximum, mean_interval, paired_difference

SELECTIONS = ("last", "val", "test")  # how a run's weights may be selected, in printed order
BEST_OF = (1, 2, 3, 5, 10)  # the numbers of seeds that the expected best is told for


@dataclass(frozen=True)
class Spread:
    """One metric over a run's seeds: a value of summary.json's "metrics"."""

    mean: float
    sd: float | None  # sample SD (ddof = 1); None for one seed
    best: float
    values: tuple[float, ...]  # an entry a seed, in the order of the run's seeds

    @property
    def interval(self) -> Interval | None:
        """Student's 95 % t interval of the mean over seeds; None for one seed."""
        return mean_interval(self.values)


Metrics = Mapping[MetricName, Spread]  # of a whole run


def spread(values: Sequence[float]) -> Spread:
    """Mean, sample SD (None for one value), the best, and the values themselves."""
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), sd, max(values), tuple(values))


def over_seeds(metrics: Sequence[Mapping[MetricName, float]]) -> dict[MetricName, Spread]:
    """The metrics of each seed, spread over the seeds."""
    return {name: spread([seed[name] for seed in metrics]) for name in metrics[0]}


@dataclass(frozen=True)
class Optimism:
    """How much better weights look when the test videos select them: test − val, over the same
    seeds.
    """

    mean: float
    interval: Interval | None  # 95 % t interval of the mean; None for one seed


def optimism(test: Spread, val: Spread) -> Optimism:
    """The selection optimism of one metric, from its values under both selections.

    Raises ValueError where the two do not have equally many seeds.
    """
    mean, interval = paired_difference(test.values, val.values)
    return Optimism(mean, interval)


def optimism_of_heads(metrics: Metrics, metric: str) -> dict[str, Optimism]:
    """{head: selection optimism of `metric`}, for each head that the run has under val and test."""
    heads = {}
    for name, value in metrics.items():
        if name.selection == "val" and name.metric == metric:
            test = metrics.get(name._replace(selection="test"))
            if test is not None:
                heads[name.head] = optimism(test, value)
    return heads


def expected_best(values: Sequence[float]) -> dict[int, float]:
    """{n: expected best of n seeds}, for each n of `BEST_OF` that is not above the seeds at hand.

    It tells what reporting the best seed alone is worth. Empty for one seed.
    """
    if len(values) < 2:
        return {}
    best = expected_maximum(values)
    return {n: float(best[n - 1]) for n in BEST_OF if n <= len(best)}


def expected_best_of_selections(
    metrics: Metrics, head: str, metric: str
) -> dict[str, dict[int, float]]:
    """{selection: `expected_best`} of one head's metric, in the order of `SELECTIONS`, for each
    selection that the run has. Empty for one seed.
    """
    rows = {}
    for selection in SELECTIONS:
        value = metrics.get(MetricName(selection, head, metric))
        if value is not None and len(value.values) > 1:
            rows[selection] = expected_best(value.values)
    return rows


def head_on_val(evaluations: Sequence[Mapping[MetricName, float]], metric: str) -> str | None:
    """The head with the higher mean video-level metric on val; the binary head where they tie.

    `evaluations` has an entry a seed (lines of metrics.jsonl, or `evaluate.Videos.judge`), whose
    names under the selection "val" count. None without val videos, or without two heads.
    """
    means = {}
    for head in ("binary", "class"):
        name = MetricName("val", head, metric)
        if any(name in of_seed for of_seed in evaluations):
            means[head] = statistics.fmean(of_seed[name] for of_seed in evaluations)
    if len(means) < 2:
        return None
    return "class" if means["class"] > means["binary"] else "binary"


def rows_of(metrics: Metrics) -> list[tuple[str, str]]:
    """The (selection, head) pairs that a table of these metrics has as its rows, each once, in
    their order.
    """
    return list(dict.fromkeys((name.selection, name.head) for name in metrics))

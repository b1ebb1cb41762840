"""What a study found, in numbers: study.json, as it is written and as it is read again.

Our metrics are fractions in [0, 1]; the paper's figures are per cent, as printed.
"""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np

from semvad_jax import config, seeds
from semvad_jax.files import read_json, write
from semvad_jax.report import findings
from semvad_jax.report.findings import Optimism, Spread
from semvad_jax.report.summary import NOTES
from semvad_jax.statistics import Interval, variance_split
from semvad_jax.studies.study import HEADLINE, Figure, Options, Row, Study
from semvad_jax.studies.trained import Result, groups

PAPERS = ("ucf", "xd")


@dataclass(frozen=True)
class Measured:
    """A metric of a run over its seeds; no interval for one seed, nor for crossed seeds."""

    mean: float
    sd: float | None
    best: float
    values: list[float]
    t_interval: Interval | None


@dataclass(frozen=True)
class Difference:
    """Test − val over the same seeds, see `findings.optimism`."""

    mean: float
    t_interval: Interval | None


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of a table. What has a default here the paper's own lines do not have."""

    data: str  # the label of the store
    row: str
    label: str
    paper_per_cent: dict[str, Figure]  # by metric
    run: str | None = None  # its RUN directory
    store: str | None = None
    inputs_not_the_papers: list[str] | None = None
    weight_seeds: list[int] | None = None
    data_seeds: list[int] | None = None
    metrics: dict[str, Measured] | None = None  # by `MetricName`
    selection_optimism: dict[str, Difference] | None = None  # by "head/metric"
    selected_by: str | None = None  # the head that val and test select weights by
    sd_from: dict[str, dict[str, float]] | None = None  # by selection, see `variance_split`
    classes: str | None = None  # of a transfer: which classes were judged
    paper_pairs: dict[str, float] | None = None  # of crossed seeds, per cent
    explored: str | None = None  # of σ-greedy: the share of steps


class StudyFile(msgspec.Struct, frozen=True):
    """study.json of a study that trains."""

    study: str
    title: str
    set: list[str]  # --set
    rows: list[Line]
    command: str = ""
    by_label: bool = False  # one table for all stores
    each_seed: bool = False
    note: str = ""
    apart: list[str] = []  # see `settings_apart`


def write_numbers(path: Path, numbers: StudyFile) -> None:
    write(path, msgspec.json.format(msgspec.json.encode(numbers), indent=2))


def read_numbers(path: Path) -> StudyFile:
    """The inverse of `write_numbers`, of files by earlier versions too.

    Raises BadInput for another form.
    """
    return read_json(path, StudyFile, "is no result of a study; run --study again to make it")


def numbers(study: Study, name: str, options: Options, results: Sequence[Result]) -> StudyFile:
    """A study's numbers, in the order of its tables and their lines."""
    rows = [
        _line(study, row, result, group)
        for group in groups(study, results)
        for row, result in lines(study, group)
    ]
    return StudyFile(
        study=name,
        title=study.title,
        set=list(options.overrides),
        rows=rows,
        command=command(study, name, options),
        by_label=study.by_label,
        each_seed=study.each_seed,
        note=study.note,
        apart=[text for group in groups(study, results) for text in settings_apart(group)],
    )


def command(study: Study, name: str, options: Options) -> str:
    """The call that makes the study again, without what its numbers do not hang on."""
    words = ["python", "main.py", "--study", name]
    if options.data:
        words += ["--data", *options.data]
    if options.base:
        words += ["--config", options.base]
    weight_seeds, data_seeds = list(options.weight_seeds), list(options.data_seeds)
    if weight_seeds != config.default_seeds(len(weight_seeds)):
        words += ["--seeds", ",".join(map(str, weight_seeds))]
    elif len(weight_seeds) != study.seeds:
        words += ["--vmap-seeds", str(len(weight_seeds))]
    if data_seeds != weight_seeds:
        words += ["--data-seeds", ",".join(map(str, data_seeds))]
    for text in options.overrides:
        words += ["--set", text]
    if options.class_map:
        words += ["--class-map", str(options.class_map)]
    return shlex.join(words)


def lines(study: Study, group: Sequence[Result]) -> list[tuple[Row, Result | None]]:
    """A table's lines in the study's order; the paper's own rows have no result."""
    return [
        (row, result)
        for row in study.rows
        for result in ([r for r in group if r.row is row] or [None])
    ]


def _line(study: Study, row: Row, result: Result | None, group: Sequence[Result]) -> Line:
    """One line of the table of a group; `result` is its run, where it has one."""
    like = result or group[0]  # of the same data set
    figures = {
        like.metric(metric): paper_figure(study, row, like, like.metric(metric))
        for metric in study.metrics
    }
    line = Line(
        data=like.label,
        row=row.name,
        label=row.label.format(result.label if result else ""),
        paper_per_cent={metric: figure for metric, figure in figures.items() if figure},
    )
    if result is None:
        return line
    metrics, optimisms = {}, {}
    for metric in study.metrics:
        for selection in NOTES:
            if spread := result.spread(selection, metric):
                metrics[str(result.name(selection, metric))] = _measured(study, spread)
        if difference := optimism(study, result, metric):
            name = f"{result.head_of(metric)}/{result.metric(metric)}"
            optimisms[name] = Difference(difference.mean, difference.interval)
    parts = {selection: variance_split(grid) for selection, grid in grids(study, result).items()}
    return msgspec.structs.replace(
        line,
        run=str(result.run),
        store=result.cfg.data.store,
        inputs_not_the_papers=list(result.others),
        weight_seeds=result.summary.weight_seeds,
        data_seeds=result.summary.data_seeds,
        metrics=metrics,
        selection_optimism=optimisms,
        selected_by=None if study.transfer else result.cfg.eval.select_head,
        sd_from=parts or None,
        classes=result.classes or None,
        paper_pairs=dict(result.row.paper_pairs) or None,
        explored=explored(result),
    )


def mean_sigma(decay: float, steps: int) -> float:
    """The mean of decay^t over t = 0 … steps − 1: the expected share of steps that explore."""
    return 1.0 if decay == 1 else (1 - decay**steps) / (steps * (1 - decay))


def explored(result: Result) -> str | None:
    """What share of a σ-greedy run's steps ranked snippets by distance; None for other runs."""
    loss, steps = result.cfg.loss, result.summary.steps
    if not loss.sigma_greedy:
        return None
    share = 100 * mean_sigma(loss.sigma_decay, steps)
    return (
        f"{result.row.label}: σ falls by {loss.sigma_decay:.4g} a step, so that {share:.0f} % of "
        f"its {steps:,} steps explore"
    )


def settings_apart(group: Sequence[Result]) -> list[str]:
    """Sentences on settings in which a table's runs differ and that no line names.

    Where every line is another system, what differs is the systems' own: told is what is not. Else
    one for each two lines of a store, one after the other, of what both models have.
    """
    models = {line.row.name: line.cfg.model.name for line in group}
    if len(models) == len(set(models.values())) > 1:
        return _not_the_systems_own(group)
    sentences = []
    for one, other in pairwise(group):
        if one.label != other.label:
            continue
        named = _named(one) | _named(other) | {"loss.sigma_decay"}
        named.add("train.remat")  # which changes no figure
        settings, others = (asdict(seeds.for_device(line.cfg)) for line in (one, other))
        apart = [
            f"{section}.{name} {value} and {others[section][name]}"
            for section in ("model", "loss", "train", "eval")
            for name, value in settings[section].items()
            if f"{section}.{name}" not in named
            and None not in (value, others[section][name])
            and value != others[section][name]
        ]
        if apart:
            lines = f"{one.row.label} and {other.row.label}"
            sentences.append(f"{lines} also differ in {', '.join(apart)}.")
    return sentences


def _named(line: Result) -> set[str]:
    """The settings that a line names."""
    return {text.partition("=")[0] for text in line.row.overrides or ()}


def _not_the_systems_own(group: Sequence[Result]) -> list[str]:
    """One sentence on what a config, or --set, has in place of the systems' own settings, and in
    how many runs; none where it has nothing.
    """
    places = Counter(
        f"{name} {value}"
        for line in group
        for name, value in config.not_own(line.cfg).items()
        if name not in _named(line)
    )
    if not places:
        return []
    labels = ", ".join(dict.fromkeys(line.label for line in group))
    told = ", ".join(f"{setting} ({count})" for setting, count in places.most_common())
    return [
        f"{labels}: each system has its own settings (configs/models), but for these, in brackets "
        f"in how many of {len(group)} runs: {told}."
    ]


def _measured(study: Study, spread: Spread) -> Measured:
    values, interval = list(spread.values), seed_interval(study, spread)
    return Measured(spread.mean, spread.sd, spread.best, values, interval)


def paper_figure(study: Study, row: Row, like: Result, metric: str) -> Figure | None:
    """What the paper has for a row; of another data set than its two, UCF-Crime's figure.

    `like` is a result of the row's data set.
    """
    dataset = like.summary.dataset
    key = dataset if dataset in PAPERS else "ucf"
    return row.paper.get(f"{like.label if study.by_label else key}/{metric}")


def grids(study: Study, result: Result) -> Mapping[str, np.ndarray]:
    """{selection: the headline metric [W, D]}, weight seeds by data seeds; {} where they are not
    crossed.
    """
    if not study.cross_seeds:
        return {}
    count = len(set(result.summary.weight_seeds))
    spreads = {selection: result.spread(selection, HEADLINE) for selection in NOTES}
    return {s: np.reshape(spread.values, (count, -1)) for s, spread in spreads.items() if spread}


def optimism(study: Study, result: Result, metric: str) -> Optimism | None:
    """What selecting weights on the test videos adds to a metric; None where the run lacks test or
    val. Crossed seeds have no interval.
    """
    test, val = (result.spread(selection, metric) for selection in ("test", "val"))
    if test is None or val is None:
        return None
    difference = findings.optimism(test, val)
    return Optimism(difference.mean, None) if study.cross_seeds else difference


def seed_interval(study: Study, spread: Spread) -> Interval | None:
    """Of the mean over seeds; crossed pairs share seeds, so that there is none."""
    return None if study.cross_seeds else spread.interval

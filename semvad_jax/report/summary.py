"""What a run says of itself: summary.json, and the tables on the console.

The statistics come from report/findings.py; this file writes them, reads them and prints them.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from semvad_jax import checkpoint
from semvad_jax.files import BadInput, read_json, require, write
from semvad_jax.metrics import MetricName
from semvad_jax.report import findings
from semvad_jax.report.findings import Metrics, Spread
from semvad_jax.statistics import Interval

NOTES = {"last": "last step", "val": "val", "test": "test, optimistic"}  # of each selection

# What stands above a metric's column, wherever one is shown.
COLUMNS = {
    "auc": "AUC",
    "ap": "AP",
    "ap_trapezoid": "AP, trapezoid",
    "auc_abnormal": "AUC within anomalous videos",
    "map": "mAP, public rules",
    "map_clean": "mAP, clean",
}
TABLES = (("auc", "ap"), ("ap_trapezoid", "auc_abnormal"), ("map", "map_clean"))  # on the console


@dataclasses.dataclass(frozen=True)
class Facts:
    """The fields of summary.json, all but its metrics."""

    config: str
    model: str
    dataset: str
    device: str
    weight_seeds: list[int]
    data_seeds: list[int]
    steps: int
    wall_seconds: float
    train_seconds: float  # after compilation
    # which test videos are left out, or that there are none; None where all are judged, and then
    # it does not stand in the file
    unjudged: str | None = dataclasses.field(default=None, kw_only=True)

    @property
    def title(self) -> str:
        """The run in a few words: "semvad on ucf, 10 seeds"."""
        seeds = len(self.weight_seeds)
        return f"{self.model} on {self.dataset}, {seeds} seed{'s' * (seeds > 1)}"


@dataclasses.dataclass(frozen=True)
class Summary(Facts):
    """The fields of summary.json, and of eval.json. Metrics are fractions in [0, 1]."""

    metrics: dict[MetricName, Spread]


@dataclasses.dataclass(frozen=True)
class _Written(Facts):
    """The same, with the names of the metrics as they stand in the file."""

    metrics: dict[str, Spread]


def write_summary(path: Path, summary: Summary) -> None:
    """Writes summary.json or eval.json, as architecture.md has it."""
    fields: dict[str, Any] = dict(vars(summary))
    fields["metrics"] = {
        str(name): dataclasses.asdict(value) for name, value in summary.metrics.items()
    }
    if summary.unjudged is None:
        del fields["unjudged"]
    write(path, json.dumps(fields, indent=2))


def read_finished(run: Path) -> Summary:
    """RUN/summary.json; raises BadInput where RUN is not finished, and as `read_summary` does."""
    path = run / "summary.json"
    require(path.is_file(), f"{run} is not finished; go on with --resume")
    return read_summary(path)


def read_summary(path: Path) -> Summary:
    """The inverse of `write_summary`; fields that it does not know are left out.

    Raises BadInput where the file is missing or damaged.
    """
    refusal = "is no summary of a run; main.py --config … --resume writes it again"
    if path.name == checkpoint.SUMMARY:
        checkpoint.check(path.parent, path.name)
    fields: dict[str, Any] = dict(vars(read_json(path, _Written, refusal)))
    try:
        fields["metrics"] = {
            MetricName.parse(text): value for text, value in fields["metrics"].items()
        }
    except ValueError as error:
        raise BadInput(f"{path} {refusal} ({error})") from None
    seeds = len(fields["weight_seeds"])
    for name, value in fields["metrics"].items():
        whole = 0 < seeds == len(value.values) and _adds_up(value)
        require(whole, f"{path} {refusal} ({name} does not add up)")
    return Summary(**fields)


def _adds_up(value: Spread) -> bool:
    """Whether a metric's statistics are those of its values."""
    again = findings.spread(value.values)
    known = (value.mean, value.best, value.sd or 0)
    return np.allclose(known, (again.mean, again.best, again.sd or 0), rtol=0, atol=1e-9)


def print_table(
    console: Console,
    title: str,
    metrics: Metrics,
    val_head: str | None = None,
    behind: str | None = None,
) -> None:
    """Mean ± SD (best) in per cent, a row per selection and head, mAP in a table of its own.

    `val_head` is the head chosen on val, and is marked; `behind` tells which videos the numbers
    rest on (`evaluate.Counts.sentence`).
    """
    if metrics:
        console.print(f"\n{title}; test videos, per cent: mean ± SD (best)")
    else:
        console.print(f"\n{title}")
    if behind:
        console.print(behind)
    if not metrics:
        return
    rows = findings.rows_of(metrics)
    there = {name.metric for name in metrics}
    for of_table in TABLES:
        columns = {metric: COLUMNS[metric] for metric in of_table if metric in there}
        having = [row for row in rows if all(MetricName(*row, m) in metrics for m in columns)]
        if columns:
            _print_metrics(console, metrics, columns, having, val_head)
    if val_head:
        console.print(f"* {val_head}: the head chosen on val at the last step")


def print_selection(
    console: Console, metrics: Metrics, metric: str, head: str, select_head: str
) -> None:
    """What selecting weights on the test videos adds, by head; and what reporting the best of n
    seeds adds, by selection.

    The weights were selected by `select_head`; `head` is the one that the run's headline is of.
    """
    optimism = findings.optimism_of_heads(metrics, metric)
    if optimism:
        console.print(
            f"\nSelection optimism, {metric.upper()} of test − val, points (95 % t interval)\n"
            f"Weights were selected by the {select_head} head"
        )
    for name, value in optimism.items():
        console.print(f"  {name}: {100 * value.mean:+.2f} ({points(value.interval)})")
    best = findings.expected_best_of_selections(metrics, head, metric)
    if not best:
        return
    console.print(f"\nExpected best of n seeds, {head} head, {metric.upper()}, per cent")
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("selection", no_wrap=True)
    for n in next(iter(best.values())):
        table.add_column(f"n = {n}", justify="right", no_wrap=True)
    for selection, row in best.items():
        table.add_row(NOTES[selection], *(f"{100 * value:.2f}" for value in row.values()))
    console.print(table)


def points(interval: Interval | None) -> str:
    """An interval of fractions, in points of a per cent."""
    if interval is None:
        return "too few seeds for an interval"
    return f"{100 * interval[0]:+.2f} to {100 * interval[1]:+.2f}"


def mean_and_sd(value: Spread) -> str:
    """A metric in per cent: "85.12 ± 0.43"; no SD for one seed."""
    sd = "" if value.sd is None else f" ± {100 * value.sd:.2f}"
    return f"{100 * value.mean:.2f}{sd}"


def _print_metrics(
    console: Console,
    metrics: Metrics,
    columns: Mapping[str, str],
    rows: Sequence[tuple[str, str]],
    val_head: str | None,
) -> None:
    """One table; `columns` is {metric: what stands above its column}."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for heading in ("selection", "head"):
        table.add_column(heading, no_wrap=True)
    for heading in columns.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for selection, head in rows:
        values = [metrics[MetricName(selection, head, metric)] for metric in columns]
        cells = [f"{mean_and_sd(value)} ({100 * value.best:.2f})" for value in values]
        mark = " *" if head == val_head else ""
        table.add_row(NOTES[selection], head + mark, *cells)
    console.print(table)

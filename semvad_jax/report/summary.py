"""What a run says of itself: summary.json and the table."""

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from semvad_jax.files import write
from semvad_jax.statistics import Interval, expected_maximum, paired_difference

Metrics = Mapping[str, Mapping[str, Any]]  # {"selection/head/metric": `spread` over seeds}
NOTES = {"last": "last step", "val": "val", "test": "test, optimistic"}
BEST_OF = (1, 2, 3, 5, 10)  # seeds


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, sample SD (null for one seed), best and the values themselves."""
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": sd, "best": max(values), "values": list(values)}


@dataclasses.dataclass(frozen=True)
class Summary:
    """The fields of summary.json; metrics are fractions per `selection/head/metric`."""

    config: str
    model: str
    dataset: str
    device: str
    weight_seeds: list[int]
    data_seeds: list[int]
    steps: int
    wall_seconds: float
    train_seconds: float
    metrics: dict[str, dict[str, Any]]

    @property
    def title(self) -> str:
        seeds = len(self.weight_seeds)
        return f"{self.model} on {self.dataset}, {seeds} seed{'s' * (seeds > 1)}"


def write_summary(path: Path, summary: Summary) -> None:
    write(path, json.dumps(dataclasses.asdict(summary), indent=2))


def val_head(latest: Sequence[Mapping[str, float]], metric: str) -> str | None:
    """The head with the higher mean video-level metric on val at the last step; None without val or
    without two heads.
    """
    means = {
        head: statistics.fmean(m[f"val/{head}/{metric}"] for m in latest)
        for head in ("binary", "class")
        if any(f"val/{head}/{metric}" in m for m in latest)
    }
    return max(means, key=lambda head: means[head]) if len(means) > 1 else None


def print_table(console: Console, title: str, metrics: Metrics, chosen: str | None = None) -> None:
    """Mean ± SD (best) in per cent, a row per selection and head; `chosen` is val's head."""
    console.print(f"\n{title}; test videos, per cent: mean ± SD (best)")
    rows = dict.fromkeys(tuple(key.split("/")[:2]) for key in metrics)
    _print(console, metrics, {"AUC": "auc", "AP": "ap"}, list(rows), chosen)
    if any("/map" in key for key in metrics):
        columns = {"mAP, public rules": "map", "mAP, clean": "map_clean"}
        _print(console, metrics, columns, [row for row in rows if row[1] == "class"], chosen)
    if chosen:
        console.print(f"* {chosen}: the head chosen on val at the last step")


def print_selection(
    console: Console, metrics: Metrics, metric: str, head: str, select_head: str
) -> None:
    """What selecting weights on the test videos adds, test − val over the same seeds, by head; and
    what reporting the best of n seeds adds, by selection. Weights were selected by `select_head`,
    `head` is the headline.
    """
    heads = [k.split("/")[1] for k in metrics if k.startswith("val/") and k.endswith(f"/{metric}")]
    if heads:
        console.print(
            f"\nSelection optimism, {metric.upper()} of test − val, points (95 % t interval)\n"
            f"Weights were selected by the {select_head} head"
        )
    for name in heads:
        values = (
            metrics[f"{selection}/{name}/{metric}"]["values"] for selection in ("test", "val")
        )
        mean, interval = paired_difference(*values)
        console.print(f"  {name}: {100 * mean:+.2f} ({points(interval)})")
    rows = {s: metrics[f"{s}/{head}/{metric}"] for s in NOTES if f"{s}/{head}/{metric}" in metrics}
    seeds = max(len(row["values"]) for row in rows.values())
    if seeds == 1:
        return
    console.print(f"\nExpected best of n seeds, {head} head, {metric.upper()}, per cent")
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("selection", no_wrap=True)
    shown = [n for n in BEST_OF if n <= seeds]
    for n in shown:
        table.add_column(f"n = {n}", justify="right", no_wrap=True)
    for selection, row in rows.items():
        best = expected_maximum(row["values"])
        table.add_row(NOTES[selection], *(f"{100 * best[n - 1]:.2f}" for n in shown))
    console.print(table)


def points(interval: Interval | None) -> str:
    """An interval of fractions, in points of a per cent."""
    if interval is None:
        return "too few seeds for an interval"
    return f"{100 * interval[0]:+.2f} to {100 * interval[1]:+.2f}"


def _print(
    console: Console,
    metrics: Metrics,
    columns: Mapping[str, str],
    rows: Sequence[tuple[str, ...]],
    chosen: str | None,
) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("selection", "head", *columns):
        table.add_column(name, justify="right" if name in columns else "left", no_wrap=True)
    for selection, head in rows:
        cells = [_cell(metrics[f"{selection}/{head}/{m}"]) for m in columns.values()]
        table.add_row(NOTES[selection], head + (" *" if head == chosen else ""), *cells)
    console.print(table)


def _cell(value: Mapping[str, Any]) -> str:
    sd = "" if value["sd"] is None else f" ± {100 * value['sd']:.2f}"
    return f"{100 * value['mean']:.2f}{sd} ({100 * value['best']:.2f})"

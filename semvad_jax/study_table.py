"""What a study found, beside the paper's figures: tables, study.json, a drawing of the seeds."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from semvad_jax import plots
from semvad_jax.checkpoint import write
from semvad_jax.report import NOTES
from semvad_jax.statistics import Interval, mean_interval
from semvad_jax.study import HEADLINE, Figure, Result, Row, Study, groups

PAPERS = ("ucf", "xd")
NAMES = {"auc": "frame AUC", "ap": "frame AP", "map": "average mAP, public rules"}


def tell(
    study: Study, name: str, results: Sequence[Result], overrides: Sequence[str], home: Path
) -> None:
    """Prints the study and writes HOME/study.json; the metric against the seed also as a drawing,
    where matplotlib is installed.
    """
    home.mkdir(parents=True, exist_ok=True)
    write(home / "study.json", json.dumps(_numbers(study, name, overrides, results), indent=2))
    console = Console(highlight=False, markup=False)
    console.print(f"\n{study.title}\nTest videos, per cent: mean ± SD; mean ± t: its 95 % interval")
    for group in groups(study, results):
        stores = dict.fromkeys(f"{r.label} = {r.cfg.data.store}" for r in group)
        console.print(f"\n{', '.join(stores)}")
        if study.kind == "seeds":
            _print_seeds(console, group)
            _draw(console, home, group)
        for result in group if study.kind == "grid" else ():
            _print_grid(console, result)
        for metric in study.metrics:
            _print_metric(console, study, group, metric)
        if study.kind != "transfer":
            by = dict.fromkeys(r.cfg.eval.select_head for r in group)
            console.print(f"val, test: weights selected by the {' or '.join(by)} head.")
        _print_differences(console, group)
    if study.note:
        console.print(study.note)
    if overrides:
        console.print(f"Every row was trained with --set {' '.join(overrides)}.")
    console.print(f"The numbers: {home / 'study.json'}")


def paper_figure(study: Study, row: Row, group: Sequence[Result], metric: str) -> Figure | None:
    """What the paper has for a row; of another data set than its two, UCF-Crime's figure."""
    dataset = group[0].summary["dataset"]
    key = dataset if dataset in PAPERS else "ucf"
    return row.paper.get(f"{group[0].label if study.by_label else key}/{metric}")


def variance_split(values: np.ndarray) -> dict[str, float]:
    """SDs of a metric [W, D] that come from the weight seed, the data seed, and the two together.

    Two-way random effects without repetition; an estimate of a variance below 0 counts as 0.
    """
    w, d = values.shape
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    rest = values - rows[:, None] - columns[None, :] + values.mean()
    both = np.sum(rest**2) / ((w - 1) * (d - 1))
    parts = {
        "weight seed": max(0.0, rows.var(ddof=1) - both / d),
        "data seed": max(0.0, columns.var(ddof=1) - both / w),
        "both together": both,
    }
    return {name: float(variance**0.5) for name, variance in parts.items()}


def grids(result: Result) -> dict[str, np.ndarray]:
    """The headline metric [W, D], weight seeds by data seeds, per selection."""
    count = len(set(result.summary["weight_seeds"]))
    found = {s: result.found(s, HEADLINE) for s in NOTES}
    return {s: np.reshape(v["values"], (count, -1)) for s, v in found.items() if v}


def _lines(study: Study, group: Sequence[Result]) -> list[tuple[Row, Result | None]]:
    """A table's lines in the study's order; the paper's own rows have no result."""
    return [
        (row, result)
        for row in study.rows
        for result in ([r for r in group if r.row is row] or [None])
    ]


def _print_metric(console: Console, study: Study, group: Sequence[Result], metric: str) -> None:
    name, count = group[0].name(metric), len(group[0].summary["weight_seeds"])
    selections = [s for s in NOTES if any(r.found(s, metric) for r in group)]
    headings = [NOTES[s].replace(", ", ",\n") for s in selections]
    heads = list(dict.fromkeys(r.head_of(metric) for r in group))
    kind = "pairs of seeds" if study.kind == "grid" else "seeds"
    console.print(f"\n{_name(name)}, {' or '.join(heads)} head; n = {count} {kind}")
    table = _table("", *headings[:1], "± t", *headings[1:], "the paper")
    best = _table(f"best of {count}", *headings, "the paper")
    for row, result in _lines(study, group):
        figure = paper_figure(study, row, [result] if result else group, name)
        if result is None and figure is None:
            continue  # not in the paper's table of this data set
        label = row.label.format(result.label if result else "")
        label += f" ({result.head_of(metric)})" if result and len(heads) > 1 else ""
        found = [result.found(s, metric) if result else None for s in selections]
        cells = [_ours(value) for value in found]
        star = "*" if figure and any(r.others for r in ([result] if result else group)) else ""
        table.add_row(
            label,
            *cells[:1],
            _half(study, next(iter(found), None)),
            *cells[1:],
            _paper(figure) + star,
        )
        if figure and figure.best is not None:
            shown = [f"{100 * value['best']:.2f}" if value else "–" for value in found]
            best.add_row(label, *shown, f"{figure.best:.2f}{star}")
    console.print(table)
    if best.row_count:
        console.print(best)


def _print_seeds(console: Console, group: Sequence[Result]) -> None:
    for result in group:
        found = {s: result.found(s, HEADLINE) for s in NOTES}
        shown = {s: value["values"] for s, value in found.items() if value}
        title = f"{_name(result.name(HEADLINE))} of each seed, {result.head} head"
        console.print(f"\n{result.row.label}: {title}")
        table = _table("weight seed, data seed", *(NOTES[s] for s in shown))
        pairs = zip(result.summary["weight_seeds"], result.summary["data_seeds"], strict=True)
        for k, pair in enumerate(pairs):
            cells = [f"{100 * values[k]:.2f}" for values in shown.values()]
            table.add_row(f"{pair[0]}, {pair[1]}", *cells)
        console.print(table)


def _print_grid(console: Console, result: Result) -> None:
    rows, columns = (list(dict.fromkeys(result.summary[f"{k}_seeds"])) for k in ("weight", "data"))
    title = f"{_name(result.name(HEADLINE))}, {result.head} head"
    splits = {}
    for selection, values in grids(result).items():
        console.print(f"\n{result.row.label}: {title}, {NOTES[selection]}")
        table = _table("weight seed \\ data seed", *map(str, columns))
        for seed, line in zip(rows, values, strict=True):
            table.add_row(str(seed), *(f"{100 * value:.2f}" for value in line))
        console.print(table)
        splits[selection] = variance_split(values)
    console.print("\nSD that comes from, points")
    table = _table("", *(NOTES[s].replace(", ", ",\n") for s in splits))
    for part in next(iter(splits.values())):
        table.add_row(part, *(f"{100 * split[part]:.2f}" for split in splits.values()))
    console.print(table)


def _print_differences(console: Console, group: Sequence[Result]) -> None:
    others = dict.fromkeys(text for r in group for text in r.others)
    if others:
        console.print(
            f"* The paper's figure was made from other inputs; here: {', '.join(others)}. "
            "Nothing follows from its distance to ours."
        )


def _draw(console: Console, home: Path, group: Sequence[Result]) -> None:
    if not plots.available():
        console.print("no drawing: matplotlib is not installed (extra `report`)")
        return
    import matplotlib

    first = group[0]

    def draw(axes: Any) -> None:
        seeds = list(map(str, first.summary["weight_seeds"]))
        for place, (result, dash) in enumerate((r, d) for r in group for d in plots.DASHES):
            selection = ("last", "test")[place % 2]
            value = result.found(selection, HEADLINE)
            colour = f"C{place // 2}"
            if value:
                label = f"{result.row.label}, {NOTES[selection]}"
                points = [100 * x for x in value["values"]]
                axes.plot(points, dash, marker="o", color=colour, label=label)
        axes.set_xticks(range(len(seeds)), seeds)
        axes.set(xlabel="weight seed", ylabel=f"{_name(first.name(HEADLINE))}, %")
        axes.legend(frameon=False)

    with matplotlib.rc_context(plots.STYLE):
        plots.save(home, first.label, draw)
    console.print(f"drawn: {home / first.label}.png and .svg")


def _numbers(
    study: Study, name: str, overrides: Sequence[str], results: Sequence[Result]
) -> dict[str, Any]:
    """study.json; our metrics are fractions, the paper's figures are per cent as printed."""
    rows = []
    for group in groups(study, results):
        for row, result in _lines(study, group):
            names = {m: (result or group[0]).name(m) for m in study.metrics}
            figures = {
                name: paper_figure(study, row, [result] if result else group, name)
                for name in names.values()
            }
            entry = {
                "data": (result or group[0]).label,
                "row": row.name,
                "label": row.label.format(result.label if result else ""),
                "paper_per_cent": {k: dataclasses.asdict(v) for k, v in figures.items() if v},
            }
            rows.append(entry | (_result(study, result, names) if result else {}))
    return {"study": name, "title": study.title, "set": list(overrides), "rows": rows}


def _result(study: Study, result: Result, names: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for metric, name in names.items():
        for selection in NOTES:
            value = result.found(selection, metric)
            if value:
                key = f"{selection}/{result.head_of(metric)}/{name}"
                found[key] = value | {"t_interval": _interval(study, value["values"])}
    split = {s: variance_split(v) for s, v in grids(result).items()} if study.kind == "grid" else {}
    return {
        "run": str(result.run),
        "store": result.cfg.data.store,
        "inputs_not_the_papers": list(result.others),
        "weight_seeds": result.summary["weight_seeds"],
        "data_seeds": result.summary["data_seeds"],
        "metrics": found,
    } | ({"sd_from": split} if split else {})


def _table(first: str, *columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _name(metric: str) -> str:
    return NAMES.get(metric, metric.replace("map@", "mAP@"))


def _ours(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value['mean']:.2f}" + (
        "" if value["sd"] is None else f" ± {100 * value['sd']:.2f}"
    )


def _paper(figure: Figure | None) -> str:
    """With two or three digits after the point, as the paper has them."""
    numbers = [] if figure is None else [x for x in (figure.mean, figure.sd) if x is not None]
    return " ± ".join(f"{x:.3f}".removesuffix("0") for x in numbers) or "–"


def _half(study: Study, value: Mapping[str, Any] | None) -> str:
    interval = _interval(study, value["values"]) if value else None
    return "–" if interval is None else f"{50 * (interval[1] - interval[0]):.2f}"


def _interval(study: Study, values: Sequence[float]) -> Interval | None:
    """Of the mean over seeds; a grid's pairs share seeds, so that it has none."""
    return None if study.kind == "grid" else mean_interval(values)

"""What a study found, beside the paper's figures: tables and a drawing of the seeds."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from semvad_jax.files import write
from semvad_jax.report import plots
from semvad_jax.report.summary import NOTES, points
from semvad_jax.studies.numbers import (
    grids,
    lines,
    numbers,
    optimism,
    paper_figure,
    seed_interval,
    variance_split,
)
from semvad_jax.studies.study import HEADLINE, Figure, Result, Study, groups

NAMES = {"auc": "frame AUC", "ap": "frame AP", "map": "average mAP, public rules"}


def tell(
    study: Study, name: str, results: Sequence[Result], overrides: Sequence[str], home: Path
) -> None:
    """Prints the study and writes HOME/study.json; the metric against the seed also as a drawing,
    where matplotlib is installed.
    """
    home.mkdir(parents=True, exist_ok=True)
    write(home / "study.json", json.dumps(numbers(study, name, overrides, results), indent=2))
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
        if study.kind == "transfer":
            console.print("\n".join(dict.fromkeys(r.classes for r in group)))
        else:
            by = dict.fromkeys(r.cfg.eval.select_head for r in group)
            console.print(f"val, test: weights selected by the {' or '.join(by)} head.")
            if all(r.found("last", HEADLINE) and not r.found("val", HEADLINE) for r in group):
                console.print(
                    "No val, no selection optimism: --set data.val_fraction=0.1 sets one aside."
                )
        _print_differences(console, group)
    if study.note:
        console.print(study.note)
    if overrides:
        console.print(f"Every row was trained with --set {' '.join(overrides)}.")
    console.print(f"The numbers: {home / 'study.json'}")


def _print_metric(console: Console, study: Study, group: Sequence[Result], metric: str) -> None:
    name, count = group[0].name(metric), len(group[0].summary["weight_seeds"])
    selections = [s for s in NOTES if any(r.found(s, metric) for r in group)]
    headings = [NOTES[s].replace(", ", ",\n") for s in selections]
    heads = list(dict.fromkeys(r.head_of(metric) for r in group))
    kind = "pairs of seeds" if study.kind == "grid" else "seeds"
    if not selections and study.kind == "transfer":
        return  # a metric of the class head, and the class lists differ
    console.print(f"\n{_name(name)}, {' or '.join(heads)} head; n = {count} {kind}")
    table = _table("", *headings[:1], "± t", *headings[1:], "the paper")
    best = _table(f"best of {count}", *headings, "the paper")
    for row, result in lines(study, group):
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
    _print_optimism(console, study, group, metric)


def _print_optimism(console: Console, study: Study, group: Sequence[Result], metric: str) -> None:
    table = _table("selection optimism, points", "test − val", "its 95 % interval")
    for result in group:
        found = optimism(study, result, metric)
        if found:
            mean, interval = found["mean"], found["t_interval"]
            label = result.row.label.format(result.label)
            table.add_row(label, f"{100 * mean:+.2f}", points(interval) if interval else "–")
    if table.row_count:
        console.print(table)


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
    interval = seed_interval(study, value["values"]) if value else None
    return "–" if interval is None else f"{50 * (interval[1] - interval[0]):.2f}"

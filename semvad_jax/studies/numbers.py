"""What a study found, in numbers: study.json."""

import dataclasses
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from semvad_jax.report.summary import NOTES
from semvad_jax.statistics import Interval, mean_interval
from semvad_jax.studies.study import HEADLINE, Figure, Result, Row, Study, groups

PAPERS = ("ucf", "xd")


def numbers(
    study: Study, name: str, overrides: Sequence[str], results: Sequence[Result]
) -> dict[str, Any]:
    """study.json; our metrics are fractions, the paper's figures are per cent as printed."""
    rows = []
    for group in groups(study, results):
        for row, result in lines(study, group):
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
    found, optimisms = {}, {}
    for metric, name in names.items():
        for selection in NOTES:
            value = result.found(selection, metric)
            if value:
                key = f"{selection}/{result.head_of(metric)}/{name}"
                found[key] = value | {"t_interval": seed_interval(study, value["values"])}
        if extra := optimism(study, result, metric):
            optimisms[f"{result.head_of(metric)}/{name}"] = extra
    split = {s: variance_split(v) for s, v in grids(result).items()} if study.kind == "grid" else {}
    return {
        "run": str(result.run),
        "store": result.cfg.data.store,
        "inputs_not_the_papers": list(result.others),
        "weight_seeds": result.summary["weight_seeds"],
        "data_seeds": result.summary["data_seeds"],
        "metrics": found,
        "selection_optimism": optimisms,
    } | ({"sd_from": split} if split else {"classes": result.classes} if result.classes else {})


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


def lines(study: Study, group: Sequence[Result]) -> list[tuple[Row, Result | None]]:
    """A table's lines in the study's order; the paper's own rows have no result."""
    return [
        (row, result)
        for row in study.rows
        for result in ([r for r in group if r.row is row] or [None])
    ]


def optimism(study: Study, result: Result, metric: str) -> dict[str, Any] | None:
    """What selecting weights on the test videos adds: test − val over the same seeds, as a
    fraction; None where the run lacks one of them.
    """
    found = [result.found(selection, metric) for selection in ("test", "val")]
    if None in found:
        return None
    test, val = (value["values"] for value in found if value)
    difference = [a - b for a, b in zip(test, val, strict=True)]
    return {"mean": fmean(difference), "t_interval": seed_interval(study, difference)}


def seed_interval(study: Study, values: Sequence[float]) -> Interval | None:
    """Of the mean over seeds; a grid's pairs share seeds, so that it has none."""
    return None if study.kind == "grid" else mean_interval(values)

"""The page of a run: what summary.json says, the run's drawings, and where it is most wrong.

One file that needs nothing from elsewhere and holds no script.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from semvad_jax.evaluate import Scores, Videos
from semvad_jax.files import write
from semvad_jax.report import plots
from semvad_jax.report.curves import Panel, RunData, run_data
from semvad_jax.report.summary import BEST_OF, NOTES, Summary, points
from semvad_jax.statistics import expected_maximum, mean_interval, paired_difference
from semvad_jax.templates import template

COLUMNS = {"auc": "AUC", "ap": "AP", "map": "mAP, public rules", "map_clean": "mAP, clean"}
ROWS = 11  # at most, of the numbers below a drawing


def write_page(
    run: Path,
    videos: Videos,
    scores: Sequence[Scores],
    summary: Summary,
    head: str,
    selection: str = "last",
) -> None:
    """Writes RUN/report.html and the drawings in RUN/plots/.

    `scores` are those of the test videos (whatever follows them is not looked at), one entry a
    seed, by the weights that `selection` names: "last", or "test" where the run has only weights
    that were selected on the test videos. The classes and the errors are shown by `head`.
    """
    tests = [of_seed.take(0, len(videos.test)) for of_seed in scores]
    data = run_data(run, seed_pairs(summary), videos, tests, selection, head)
    pictures = plots.write_plots(run / "plots", data)
    write(run / "report.html", render(data, summary, pictures))


def render(data: RunData, summary: Summary, pictures: Mapping[str, str]) -> str:
    """The page as HTML; `pictures` are the drawings as SVG, by name."""
    return template("run.html").render(
        data=data,
        summary=summary,
        pairs=seed_pairs(summary),
        pictures={name: Markup(plots.embedded(name, svg)) for name, svg in pictures.items()},
        notes=NOTES,
        columns=_columns(summary),
        rows=list(dict.fromkeys(tuple(key.split("/")[:2]) for key in summary.metrics)),
        interval=mean_interval,
        optimism=_optimism(data, summary),
        best=_best(data, summary),
        shown_rows=_shown_rows,
        bars=_bars(data),
        cells=None if data.confusion is None else _cells(data.confusion),
    )


def seed_pairs(summary: Summary) -> list[tuple[int, int]]:
    """The (weight seed, data seed) of every seed of a run."""
    return list(zip(summary.weight_seeds, summary.data_seeds, strict=True))


def _columns(summary: Summary) -> dict[str, str]:
    return {
        metric: name
        for metric, name in COLUMNS.items()
        if any(key.endswith(f"/{metric}") for key in summary.metrics)
    }


def _optimism(data: RunData, summary: Summary) -> list[tuple[str, float, str]]:
    """Of each head with val: what selecting on the test videos adds, points, and its interval."""
    found = []
    for name in ("binary", "class", "max"):
        keys = [f"{selection}/{name}/{data.metric}" for selection in ("test", "val")]
        if all(key in summary.metrics for key in keys):
            mean, interval = paired_difference(*(summary.metrics[key]["values"] for key in keys))
            found.append((name, 100 * mean, points(interval)))
    return found


def _best(data: RunData, summary: Summary) -> dict[str, list[tuple[int, float]]]:
    """Of each selection: the expected best of n seeds, per cent; empty for one seed."""
    found = {}
    for selection, note in NOTES.items():
        row = summary.metrics.get(f"{selection}/{data.head}/{data.metric}")
        if row and len(row["values"]) > 1:
            best = expected_maximum(row["values"])
            found[note] = [(n, 100 * float(best[n - 1])) for n in BEST_OF if n <= len(best)]
    return found


def _bars(data: RunData) -> list[tuple[str, int, float, float | None]]:
    """Name, videos, mean and SD, per cent, of each class."""
    rows = []
    for bar in data.bars:
        auc = 100 * np.array(bar.auc)
        sd = float(auc.std(ddof=1)) if len(auc) > 1 else None
        rows.append((bar.name, bar.videos, float(auc.mean()), sd))
    return rows


def _cells(counts: np.ndarray) -> list[list[str]]:
    """The texts of the confusion's cells, row by row."""
    return [[f"{n:.1f}".removesuffix(".0") if n else "·" for n in row] for row in counts]


def _shown_rows(panel: Panel) -> list[int]:
    """Which places of a panel's lines stand in the table below it, evenly spread."""
    places = np.linspace(0, len(panel.lines[0].x) - 1, ROWS)
    return np.unique(places.round().astype(int)).tolist()

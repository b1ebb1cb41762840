"""The page of a run: what summary.json says, the run's drawings, and where it is most wrong.

One file that needs nothing from elsewhere and holds no script. The statistics come from
report/findings.py and the drawings from report/plots.py; this file puts them on a page.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from semvad_jax.detection.detect import head
from semvad_jax.evaluate import Scores, Videos
from semvad_jax.files import write
from semvad_jax.metrics import MetricName
from semvad_jax.report import findings, plots
from semvad_jax.report.curves import Panel, RunData, run_data
from semvad_jax.report.summary import COLUMNS, NOTES, Summary, points
from semvad_jax.templates import template

ROWS = 11  # at most, of the numbers below a drawing


def write_page(
    run: Path,
    videos: Videos,
    final_scores: Mapping[str, Sequence[Scores]],
    summary: Summary,
    val_head: str | None,
) -> None:
    """Writes RUN/report.html and the drawings in RUN/plots/.

    `final_scores` are those of `seeds.Program`: each seed's scores, by selection. The last weights
    are shown (where best weights are reloaded, those selected on the test videos), the classes and
    the errors by the head chosen on val, else by the one that --detect uses.
    """
    selection = "last" if "last" in final_scores else "test"
    scores = [videos.test_scores(of_seed) for of_seed in final_scores[selection]]
    data = run_data(
        run, seed_pairs(summary), videos, scores, selection, val_head or head(videos.cfg)
    )
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
        rows=findings.rows_of(summary.metrics),
        metric_name=MetricName,
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
    """{metric: heading} of the metrics that the run has."""
    return {
        metric: heading
        for metric, heading in COLUMNS.items()
        if any(name.metric == metric for name in summary.metrics)
    }


def _optimism(data: RunData, summary: Summary) -> list[tuple[str, float, str]]:
    """Of each head with val: what selecting on the test videos adds, points, and its interval."""
    return [
        (head, 100 * value.mean, points(value.interval))
        for head, value in findings.optimism_of_heads(summary.metrics, data.metric).items()
    ]


def _best(data: RunData, summary: Summary) -> dict[str, list[tuple[int, float]]]:
    """Of each selection: the expected best of n seeds, per cent; empty for one seed."""
    rows = findings.expected_best_of_selections(summary.metrics, data.head, data.metric)
    return {
        NOTES[selection]: [(n, 100 * best) for n, best in row.items()]
        for selection, row in rows.items()
    }


def _bars(data: RunData) -> list[tuple[str, int, float, float | None]]:
    """Of each class: its name, its videos, and mean and SD of its AUC over seeds, per cent."""
    rows = []
    for bar in data.bars:
        auc = findings.spread([100 * value for value in bar.auc])
        rows.append((bar.name, bar.videos, auc.mean, auc.sd))
    return rows


def _cells(counts: Float[np.ndarray, "C C"]) -> list[list[str]]:
    """The texts of the confusion's cells, row by row."""
    return [[plots.count_text(n) or "·" for n in row] for row in counts]


def _shown_rows(panel: Panel) -> list[int]:
    """Which places of a panel's lines stand in the table below it, evenly spread."""
    places = np.linspace(0, len(panel.lines[0].x) - 1, ROWS)
    return np.unique(places.round().astype(int)).tolist()

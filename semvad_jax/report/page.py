"""The page of a run: what summary.json says, its curves drawn as SVG, and where it is most wrong.

One file without anything from elsewhere, and without a script.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semvad_jax.detection.detect import head
from semvad_jax.detection.page import template
from semvad_jax.evaluate import Scores, Videos
from semvad_jax.files import write
from semvad_jax.metrics import MetricName
from semvad_jax.report import findings, plots
from semvad_jax.report.curves import Panel, RunData, run_data, shares
from semvad_jax.report.summary import NOTES, Summary, points

WIDTH, HEIGHT = 1000, 500  # units of a drawing
COLUMNS = {"auc": "AUC", "ap": "AP", "map": "mAP, public rules", "map_clean": "mAP, clean"}
ROWS = 11  # at most, of the numbers below a drawing
SHADE = (11, 87, 164)  # of a cell that holds its whole row


def write_page(
    run: Path,
    videos: Videos,
    final_scores: Mapping[str, Sequence[Scores]],
    summary: Summary,
    val_head: str | None,
) -> None:
    """Writes RUN/report.html and, where matplotlib is installed, RUN/plots/.

    `final_scores` are those of `seeds.Program`: each seed's scores, by selection. The last weights
    are shown (where best weights are reloaded, those selected on the test videos), the classes and
    the errors by the head chosen on val, else by the one that --detect uses.
    """
    selection = "last" if "last" in final_scores else "test"
    scores = [videos.test_scores(of_seed) for of_seed in final_scores[selection]]
    pairs = list(zip(summary.weight_seeds, summary.data_seeds, strict=True))
    data = run_data(run, pairs, videos, scores, selection, val_head or head(videos.cfg))
    drawn = plots.available()
    if drawn:
        plots.write_plots(run / "plots", data)
    write(run / "report.html", render(data, summary, drawn))


def render(data: RunData, summary: Summary, drawn: bool) -> str:
    """The page as HTML; `drawn` tells whether the plots are there as files too."""
    return template("run.html").render(
        data=data,
        summary=summary,
        pairs=list(zip(summary.weight_seeds, summary.data_seeds, strict=True)),
        drawn=drawn,
        notes=NOTES,
        columns=_columns(summary),
        rows=findings.rows_of(summary.metrics),
        name=MetricName,
        optimism=_optimism(data, summary),
        best=_best(data, summary),
        drawing=_drawing,
        bars=_bars(data),
        cells=None if data.confusion is None else _cells(data.confusion),
        colours=plots.LINE_COLOURS,
        width=WIDTH,
        height=HEIGHT,
    )


def _columns(summary: Summary) -> dict[str, str]:
    return {
        metric: name
        for metric, name in COLUMNS.items()
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
    """Name, videos, mean and SD, per cent, of each class."""
    found = []
    for bar in data.bars:
        auc = 100 * np.array(bar.auc)
        sd = float(auc.std(ddof=1)) if len(auc) > 1 else None
        found.append((bar.name, bar.videos, float(auc.mean()), sd))
    return found


def _cells(counts: np.ndarray) -> list[list[dict[str, str]]]:
    """The confusion's cells: their text, colour and the colour behind it."""
    rows = []
    for of_row, parts in zip(counts, shares(counts), strict=True):
        rows.append([])
        for count, part in zip(of_row, parts, strict=True):
            behind = "#" + "".join(f"{round(255 + part * (c - 255)):02x}" for c in SHADE)
            text = f"{count:.1f}".removesuffix(".0") if count else "·"
            ink = "#ffffff" if part > 0.8 else "#000000"
            rows[-1].append({"text": text, "behind": behind, "ink": ink, "share": f"{part:.0%}"})
    return rows


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers at equal distances, from at or below `low` to at or above `high`."""
    span = high - low or abs(high) or 1.0
    high = low + span
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(m * power for m in (1, 2, 5, 10) if span / (m * power) <= most)
    return [float(f"{step * k:.10g}") for k in range(math.floor(low / step), _up(high / step) + 1)]


def _up(value: float) -> int:
    return math.ceil(value - 1e-9)  # 0.3 / 0.1 is three


def _drawing(panel: Panel) -> dict[str, Any]:
    """SVG path data of a panel, its ticks as (place in per cent, text), and some of its numbers."""
    values = np.concatenate([line.values.ravel() for line in panel.lines])
    y_ticks = ticks(0, 100) if panel.square else ticks(np.nanmin(values), np.nanmax(values))
    end = 100.0 if panel.square else float(panel.lines[0].x[-1])
    low, high = y_ticks[0], y_ticks[-1]

    def path(x: Iterable[float], y: Iterable[float]) -> str:
        places = [
            f"{WIDTH * a / end:.1f} {HEIGHT * (high - b) / (high - low):.1f}"
            for a, b in zip(x, y, strict=True)
            if not math.isnan(b)
        ]
        # a line to where it ends makes a dot of a single place
        return "M" + "L".join([*places, places[-1]]) if places else ""

    lines = []
    for line in panel.lines:
        band, seeds = None, []
        if panel.square and line.sd is not None:
            above, below = (np.clip(line.mean + s * line.sd, 0, 100) for s in (1, -1))
            band = path([*line.x, *line.x[::-1]], [*above, *below[::-1]]) + "Z"
        elif not panel.square and len(line.values) > 1:
            seeds = [path(line.x, of_seed) for of_seed in line.values]
        lines.append({"mean": path(line.x, line.mean), "band": band, "seeds": seeds})
    x_ticks = [tick for tick in ticks(0, end) if tick <= end]
    shown = np.unique(np.linspace(0, len(panel.lines[0].x) - 1, ROWS).round().astype(int))
    return {
        "lines": lines,
        "chance": panel.chance and path((0, end), panel.chance),
        "x": [(100 * tick / end, f"{tick:g}") for tick in x_ticks],
        "y": [(100 * (high - tick) / (high - low), f"{tick:g}") for tick in y_ticks],
        "shown": shown.tolist(),
    }

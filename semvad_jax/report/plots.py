"""The plots of a run as PNG and SVG files, by matplotlib (extra `report`)."""

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semvad_jax.detection.page import COLOURS
from semvad_jax.report.curves import ClassResult, Panel, RunData, shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    Drawing = Callable[[Axes], None]

LINE_COLOURS = (COLOURS[5], COLOURS[0])
DASHES = ("-", "--")
STYLE: dict[Any, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 150,
    "svg.fonttype": "none",
    "svg.hashsalt": "semvad",  # equal numbers, equal bytes
}


def available() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def write_plots(folder: Path, data: RunData) -> None:
    """Writes each panel, the classes' AUC and their confusion as FOLDER/<name>.png and .svg."""
    import matplotlib  # half a second, for those who have it

    drawings: dict[str, Drawing] = {
        panel.name: partial(_panel, panel) for panel in data.training + data.curves
    }
    if data.bars:
        drawings["classes"] = partial(_bars, data.bars)
    if data.confusion is not None:
        drawings["confusion"] = partial(_confusion, data.confusion, data.classes)
    folder.mkdir(exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for name, draw in drawings.items():
            save(folder, name, draw)


def save(folder: Path, name: str, draw: "Drawing") -> None:
    """FOLDER/NAME.png and FOLDER/NAME.svg of what `draw` puts on its axes."""
    from matplotlib.figure import Figure  # without pyplot: no display is looked for

    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    draw(figure.add_subplot())
    for kind, metadata in (("png", {}), ("svg", {"Date": None})):
        temporary = folder / f"{name}.{kind}.tmp"
        figure.savefig(temporary, format=kind, metadata=metadata)
        temporary.replace(folder / f"{name}.{kind}")


def _panel(panel: Panel, axes: "Axes") -> None:
    for line, colour, dash in zip(panel.lines, LINE_COLOURS, DASHES, strict=False):
        if panel.square and line.sd is not None:
            low, high = (np.clip(line.mean + side * line.sd, 0, 100) for side in (-1, 1))
            axes.fill_between(line.x, low, high, color=colour, alpha=0.25, linewidth=0)
        elif not panel.square:
            axes.plot(line.x, line.values.T, color=colour, alpha=0.3, linewidth=0.8)
        marker = "o" if len(line.x) == 1 else None
        axes.plot(line.x, line.mean, dash, color=colour, label=line.name, marker=marker)
    if panel.chance:
        axes.plot([0, 100], panel.chance, ":", color="#555555", label="chance")
    if panel.square:
        axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    axes.legend(frameon=False)


def _bars(bars: tuple[ClassResult, ...], axes: "Axes") -> None:
    mean = [100 * np.mean(bar.auc) for bar in bars]
    sd = None if len(bars[0].auc) == 1 else [100 * np.std(bar.auc, ddof=1) for bar in bars]
    names = [f"{bar.name} ({bar.videos})" for bar in bars]
    axes.barh(names, mean, xerr=sd, color=COLOURS[1], capsize=3)
    axes.axvline(50, linestyle=":", color="#555555")
    axes.invert_yaxis()
    title = "Each class's videos and the normal ones"
    axes.set(title=title, xlabel="frame AUC, %", xlim=(0, 100))


def _confusion(counts: np.ndarray, classes: tuple[str, ...], axes: "Axes") -> None:
    part = shares(counts)
    axes.imshow(part, cmap="Blues", vmin=0, vmax=1)
    places = range(len(classes))
    axes.set_xticks(places, classes, rotation=90)
    axes.set_yticks(places, classes)
    axes.set(title="Test videos: label and what was said", xlabel="said", ylabel="label")
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if part[row, column] > 0.6 else "black"
        text = f"{counts[row, column]:.1f}".removesuffix(".0")
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)

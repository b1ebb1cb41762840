"""The drawings of a run by matplotlib: PNG and SVG files, and the same SVG for the page.

matplotlib takes half a second to import, so every function that needs it imports it itself. Names
of classes are drawn as they are, never read as mathematical markup.
"""

import io
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semvad_jax.files import write
from semvad_jax.report.curves import ClassResult, Panel, RunData, shares
from semvad_jax.report.findings import spread
from semvad_jax.templates import BLUE, SKY, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    Draw = Callable[[Axes], None]

LINE_COLOURS = (BLUE, VERMILION)
DASHES = ("-", "--")
CHANCE = "#555555"
FULL_SHADE = (11, 87, 164)  # red, green and blue of a confusion cell that holds its whole row
LONGEST_NAME = 28  # characters of a class's name in a drawing; tables have all of it
PANEL_SIZE = (4.2, 3.6)  # inches
SQUARE_SIZE = (4.2, 4.7)
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "figure.dpi": 150,
    "grid.color": "#e2e2e2",
    "legend.frameon": False,
    "path.simplify": False,  # every number is in the drawing
    "svg.fonttype": "none",  # texts are texts
    "svg.hashsalt": "semvad",  # equal numbers, equal bytes
    "text.parse_math": False,
}
SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"


@dataclass(frozen=True)
class Drawing:
    """What is drawn on empty axes, and the size of the figure in inches."""

    draw: "Draw"
    size: tuple[float, float]


def write_plots(folder: Path, data: RunData) -> dict[str, str]:
    """Writes the panels, the classes' AUC and their confusion as FOLDER/<name>.png and .svg.

    Returns the SVG of each by name.
    """
    drawings = {
        panel.name: Drawing(partial(_panel, panel), SQUARE_SIZE if panel.square else PANEL_SIZE)
        for panel in data.training + data.curves
    }
    if data.bars:
        size = (4.4, 1.3 + 0.32 * len(data.bars))
        drawings["classes"] = Drawing(partial(_bars, data.bars), size)
    if data.confusion is not None:
        side = 0.5 * len(data.classes)
        draw = partial(_confusion, data.confusion, data.classes)
        drawings["confusion"] = Drawing(draw, (2.2 + side, 2.0 + side))
    folder.mkdir(exist_ok=True)
    return {
        name: save(folder, name, drawing.draw, drawing.size) for name, drawing in drawings.items()
    }


def save(folder: Path, name: str, draw: "Draw", size: tuple[float, float] = (5.2, 4.2)) -> str:
    """Writes what `draw` puts on empty axes as FOLDER/NAME.png and FOLDER/NAME.svg.

    `size` is the figure's in inches. Returns the SVG.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure  # without pyplot: no display is looked for

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # the SVG has the character itself; the PNG an empty box
        warnings.filterwarnings("ignore", r"Glyph .* missing from (font|current font)")
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        figure.draw_without_rendering()  # arranges it, once for both files
        figure.set_layout_engine("none")
        png, svg = io.BytesIO(), io.BytesIO()
        FigureCanvasAgg(figure).print_png(png)  # savefig would draw each twice
        FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None})
    write(folder / f"{name}.png", png.getvalue())
    write(folder / f"{name}.svg", svg.getvalue())
    return svg.getvalue().decode()


def embedded(name: str, svg: str) -> str:
    """A drawing as an element of a page that holds several: NAME stands before each of its ids.

    What was given an id of the form role-number, such as mean-0, has its role as class too, so that
    the page can style it.
    """
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", XLINK)
    root = ET.fromstring(svg)
    for element in root.iter():
        if "id" in element.attrib:
            role, *number = element.attrib["id"].split("-")
            if number:
                element.set("class", role)
            element.set("id", f"{name}-{element.attrib['id']}")
        for attribute, value in element.attrib.items():
            if attribute in ("href", f"{{{XLINK}}}href") and value.startswith("#"):
                element.set(attribute, f"#{name}-{value[1:]}")
            elif "url(#" in value:
                element.set(attribute, value.replace("url(#", f"url(#{name}-"))
    for child in list(root):
        # matplotlib's style sheet would hold for the whole page; its metadata are for a file
        if child.tag == f"{{{SVG}}}metadata" or child.find(f"{{{SVG}}}style") is not None:
            root.remove(child)
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    return ET.tostring(root, encoding="unicode")


def shade(share: float) -> tuple[str, str]:
    """The colour of a confusion cell that holds this share of its row, and of the text on it."""
    colour = "#" + "".join(f"{round(255 + share * (c - 255)):02x}" for c in FULL_SHADE)
    return colour, "#ffffff" if share > 0.8 else "#000000"


def _panel(panel: Panel, axes: "Axes") -> None:
    """Lines get the ids mean-LINE, band-LINE and seed-LINE-SEED, the line of chance chance-0."""
    from matplotlib.ticker import MaxNLocator

    for i, (line, colour) in enumerate(zip(panel.lines, LINE_COLOURS, strict=False)):
        if panel.square and line.sd is not None:
            low, high = (np.clip(line.mean + side * line.sd, 0, 100) for side in (-1, 1))
            x, y = np.append(line.x, line.x[::-1]), np.append(high, low[::-1])
            axes.fill(x, y, color=colour, alpha=0.22, linewidth=0, gid=f"band-{i}")
        elif not panel.square and len(line.values) > 1:
            for s, values in enumerate(line.values):
                thin: dict[str, Any] = {"alpha": 0.35, "linewidth": 0.8, "gid": f"seed-{i}-{s}"}
                axes.plot(line.x, values, color=colour, marker=_marker(values), **thin)
    for i, (line, colour, dash) in enumerate(zip(panel.lines, LINE_COLOURS, DASHES, strict=False)):
        thick: dict[str, Any] = {"linewidth": 2, "label": line.name, "gid": f"mean-{i}"}
        thick["clip_on"] = not panel.square  # a line at 100 % has all its width
        axes.plot(line.x, line.mean, dash, color=colour, marker=_marker(line.mean), **thick)
    if panel.chance:
        dotted: dict[str, Any] = {"linestyle": ":", "color": CHANCE, "label": "chance"}
        axes.plot([0, 100], panel.chance, zorder=1.5, gid="chance-0", **dotted)
    if panel.square:
        axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    else:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    axes.grid(axis="y")
    handles, labels = axes.get_legend_handles_labels()
    # below the axes, where it hides no line
    axes.figure.legend(handles, labels, loc="outside lower left", ncols=3, handlelength=2.4)


def _marker(values: np.ndarray) -> str | None:
    """A line of a single place would not be seen."""
    return "o" if np.isfinite(values).sum() == 1 else None


def _bars(bars: tuple[ClassResult, ...], axes: "Axes") -> None:
    """Bars get the ids bar-0, bar-1, … from above."""
    for i, bar in enumerate(bars):
        auc = spread([100 * value for value in bar.auc])
        (patch,) = axes.barh(
            i, auc.mean, xerr=auc.sd, height=0.7, color=SKY, edgecolor="black", capsize=3
        )
        patch.set_gid(f"bar-{i}")
    axes.axvline(50, linestyle=":", color=CHANCE)
    names = [f"{drawn_name(bar.name)} ({bar.videos})" for bar in bars]
    axes.set_yticks(range(len(bars)), names)
    axes.invert_yaxis()
    axes.set(
        title="Each class and the normal videos",
        xlabel="frame AUC, % (dotted: chance)",
        xlim=(0, 100),
    )


def _confusion(counts: np.ndarray, classes: tuple[str, ...], axes: "Axes") -> None:
    """Cells get the ids cell-ROW-COLUMN, their numbers count-ROW-COLUMN."""
    from matplotlib.patches import Rectangle

    for (row, column), share in np.ndenumerate(shares(counts)):
        behind, ink = shade(float(share))
        style: dict[str, Any] = {"facecolor": behind, "edgecolor": "#d5d5d5", "linewidth": 0.6}
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, gid=f"cell-{row}-{column}", **style))
        placed: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9, "color": ink}
        text = count_text(float(counts[row, column]))
        axes.text(column, row, text, gid=f"count-{row}-{column}", **placed)
    names, edge = [drawn_name(name) for name in classes], len(classes) - 0.5
    axes.set_xticks(range(len(classes)), names, rotation=90 if len(classes) > 3 else 0)
    axes.set_yticks(range(len(classes)), names)
    axes.set(xlim=(-0.5, edge), ylim=(edge, -0.5), aspect="equal")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(title="What the class head said", xlabel="said", ylabel="label")


def count_text(count: float) -> str:
    """A cell's mean number of videos, '' where there is none."""
    return f"{count:.1f}".removesuffix(".0") if count else ""


def drawn_name(name: str) -> str:
    """A class's name as a drawing has it: shortened, and without what no XML file may hold."""
    text = "".join(c if c.isprintable() else " " for c in name)
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"

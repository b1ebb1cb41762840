"""Every figure of our own runs that a document shows stands in docs/RESULTS.md."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "RESULTS.md"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FIGURE = re.compile(  # mean ± SD, with the best seed in brackets where a text has it
    r"\d+\.\d\d ± \d+\.\d\d(?!\d)(?: \(\d+\.\d\d\))?|[+−-]?\d\.\d{3} ± \d\.\d{3}(?!\d)"
)


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def our_figures(text):
    """The figures that are not marked as the paper's: in a table by their column's heading or
    their row's name, elsewhere by their sentence, which names the paper.
    """
    figures, heading = [], None
    for block in re.split(r"\n\s*\n", text):
        lines, heading = block.splitlines(), None
        if lines and lines[0].lstrip().startswith("|"):
            for line in lines:
                row = cells(line)
                heading = heading or row
                for title, cell in zip(heading, row, strict=True):
                    if "the paper" not in f"{title} {row[0]}".lower():
                        figures += FIGURE.findall(cell)
            continue
        for sentence in re.split(r"(?<=[.:;])\s+", " ".join(lines)):
            if "the paper" not in sentence.lower():
                figures += FIGURE.findall(sentence)
    return figures


@pytest.mark.parametrize("path", [p for p in DOCUMENTS if p != RESULTS], ids=lambda path: path.name)
def test_every_figure_of_our_runs_stands_in_the_results(path):
    known = RESULTS.read_text(encoding="utf-8")
    missing = [f for f in our_figures(path.read_text(encoding="utf-8")) if f not in known]
    assert not missing, f"{path.name} has figures that {RESULTS.name} has not: {missing}"


def test_some_figures_are_held():
    """The rule above finds what it is for: README shows figures, and the results have more."""
    assert len(our_figures((ROOT / "README.md").read_text(encoding="utf-8"))) >= 3
    assert len(FIGURE.findall(RESULTS.read_text(encoding="utf-8"))) >= 50


def test_which_figures_are_ours():
    text = """Our AUC is 70.56 ± 1.79 (73.37). The paper's is
87.21 ± 0.46; ours with it 1.00 ± 2.00.

| model | ours | the paper |
|---|---|---|
| SemVAD | 90.15 ± 2.40 | 87.21 ± 0.46 |
| the paper's best | 88.48 ± 0.10 | – |

It is 86.26 ± 0.918 there, +0.011 ± 0.006 and 0.143 ± 0.020
here.
"""
    ours = ["70.56 ± 1.79 (73.37)", "1.00 ± 2.00", "90.15 ± 2.40", "+0.011 ± 0.006"]
    assert our_figures(text) == [*ours, "0.143 ± 0.020"]

"""What the study of captions and human sentences found: tables, study.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from semvad_jax.files import write
from semvad_jax.studies.captions import CaptionMatch, Comparison, Found, Result

HEADING = (
    "Mean cosine of human sentences with captions of the same moment and with those of another: a "
    "video's sentences averaged first, then the videos. ± t: a 95 % interval over videos. nearer: "
    "how often a caption of the own moment is nearer than one of the other, drawn from each; a tie "
    "counts half, and chance is 50 %."
)


def tell(study: CaptionMatch, name: str, result: Result, home: Path) -> None:
    """Prints the study and writes HOME/study.json."""
    home.mkdir(parents=True, exist_ok=True)
    write(home / "study.json", json.dumps(_numbers(study, name, result), indent=2))
    console = Console(highlight=False, markup=False)
    console.print(f"\n{study.title}\n{HEADING}")
    _print_pairs(console, study, result)
    for found in result.stores:
        console.print(f"\n{found.label} = {found.store}; sentences: {result.sentences}")
        console.print(_told(found.counts))
        for encoder, compared in found.compared.items():
            _print_compared(console, study, encoder, compared)
    console.print(
        "* The paper's figure is of other captions, by another encoder, and has no baseline: "
        "nothing follows from its distance to ours."
    )
    console.print(f"The numbers: {home / 'study.json'}")


def _print_pairs(console: Console, study: CaptionMatch, result: Result) -> None:
    if not result.pairs:
        console.print(
            f"\nThe paper's own caption pairs (A.2, A.3) are missing: {study.pairs} is empty and "
            "tells how to fill it."
        )
        return
    console.print("\nThe paper's own caption pairs (A.2, A.3), cosine by encoder")
    table = _table("caption, human sentence", *result.pair_cosines, "the paper")
    for k, pair in enumerate(result.pairs):
        cells = [f"{values[k]:.3f}" for values in result.pair_cosines.values()]
        table.add_row(f"{pair.caption}\n{pair.human}", *cells, f"{pair.paper:g}")
    console.print(table)


def _told(counts: Mapping[str, int]) -> str:
    """What was counted, and what was repaired or left out."""
    told = [
        f"{counts['videos']} of {counts['test_videos']} test videos have captions and sentences, "
        f"{counts['sentences']} of them"
    ]
    for key, words in (
        ("reversed", "had start and end the wrong way round and were put in order"),
        ("cut", "reached past the video and were cut there"),
        ("left_out", "were left out: no whole frame, no words, or no caption at their moment"),
        ("whole_video", "share frames with every caption of their video and have no other moment"),
    ):
        told += [f"{counts[key]} {words}"] if counts[key] else []
    if counts["other_duration"]:
        told += [f"videos whose duration there is more than 5 % off: {counts['other_duration']}"]
    return "; ".join(told) + "."


def _print_compared(
    console: Console,
    study: CaptionMatch,
    encoder: str,
    compared: Mapping[str, Mapping[str, Comparison | None]],
) -> None:
    columns = ("same", "other", "difference ± t", "nearer, %", "videos", "sentences")
    table = _table("same moment against", *columns)
    for group, comparisons in compared.items():
        for kind, c in comparisons.items():
            label = kind if group == "all" else f"{kind},\n{group}"
            if c is None:
                table.add_row(label, *["–"] * len(columns))
                continue
            t, counts = c.difference_interval, (str(c.videos), str(c.sentences))
            gap = f"{c.difference:+.3f}" + (f" ± {(t[1] - t[0]) / 2:.3f}" if t else "")
            table.add_row(
                label, f"{c.same:.3f}", f"{c.other:.3f}", gap, f"{100 * c.nearer:.1f}", *counts
            )
    table.add_row("the paper", f"{study.paper:.2f}*", *["–"] * (len(columns) - 1))
    console.print(f"\n{encoder}")
    console.print(table)


def _table(first: str, *columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _numbers(study: CaptionMatch, name: str, result: Result) -> dict[str, Any]:
    """study.json; cosines and shares as fractions."""
    pairs = [
        pair._asdict() | {"cosine": {n: values[k] for n, values in result.pair_cosines.items()}}
        for k, pair in enumerate(result.pairs)
    ]
    return {
        "study": name,
        "title": study.title,
        "paper": study.paper,
        "pairs": pairs,
        "sentences": result.sentences,
        "rows": [_store(found) for found in result.stores],
    }


def _store(found: Found) -> dict[str, Any]:
    compared = {
        encoder: {
            group: {kind: c and c._asdict() for kind, c in comparisons.items()}
            for group, comparisons in groups.items()
        }
        for encoder, groups in found.compared.items()
    }
    named = {"data": found.label, "store": found.store, "counts": found.counts}
    return named | {"encoders": compared}

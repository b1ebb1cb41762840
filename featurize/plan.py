"""What a data set's lists say, before anything is computed: told, and refused where nobody could be
judged by it.
"""

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from featurize.sources import Entry, Source, some
from semvad_jax.files import require


def unknown_truth(source: Source) -> list[Entry]:
    """The anomalous test videos of which it is not known where."""
    normal = source.classes[0]
    return [
        entry
        for entry in source.entries
        if entry.split == "test"
        and not entry.intervals
        and any(label != normal for label in entry.labels)
    ]


def check(source: Source, folder: Path) -> None:
    """Raises BadInput for a test split by which nothing can be judged.

    A data set without test videos is fine: it can be trained on, for --detect.
    """
    test = [entry for entry in source.entries if entry.split == "test"]
    anomalous = sum(end - start for entry in test for _, start, end in entry.intervals)
    whole = all(
        entry.frames and entry.frames == sum(end - start for _, start, end in entry.intervals)
        for entry in test
    )
    train = any(entry.split == "train" for entry in source.entries)
    if test and train:
        require(
            anomalous > 0,
            f"{folder} lists {len(test)} test videos, and of none of them where an anomaly is; "
            "give anomaly intervals, or leave these videos out to train for --detect alone.",
        )
        require(
            not whole,
            f"{folder} lists test videos that are anomalous from end to end; nothing can be judged "
            "without normal frames.",
        )


def show(source: Source, looks_at_videos: bool) -> None:
    """Prints videos by class and split, and what a reader of the lists may not expect; files that
    are not there only where they are to be looked at.
    """
    counts = Counter((label, e.split) for e in source.entries for label in e.labels)
    splits = Counter(entry.split for entry in source.entries)
    table = Table("class", "train", "test")
    for name in source.classes:
        table.add_row(name, *(f"{counts[name, split]:,}" for split in ("train", "test")))
    table.add_row("videos", f"{splits['train']:,}", f"{splits['test']:,}")
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(table)
    looked_at = source.entries if looks_at_videos else ()
    missing = [entry.video for entry in looked_at if not entry.path.is_file()]
    unlisted = [path.name for path in source.unlisted]
    lines = {
        "listed, but there is no file": missing,
        "not listed, and passed over": unlisted,
        "judged by no frame, since it is not known where the anomaly is": [
            entry.video for entry in unknown_truth(source)
        ],
    }
    for what, names in lines.items():
        if names:
            console.print(f"{len(names)} {what}: {some(names)}", soft_wrap=True)
    if not splits["test"]:
        console.print("no test videos: a run can be trained for --detect, and judged by nothing")

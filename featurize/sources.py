"""The data sets as lists of videos: classes, splits, labels, frame counts and temporal truth."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from semvad_jax.config import BadInput

UCF_CLASSES = (
    "Normal",
    "Abuse",
    "Arrest",
    "Arson",
    "Assault",
    "Burglary",
    "Explosion",
    "Fighting",
    "RoadAccidents",
    "Robbery",
    "Shooting",
    "Shoplifting",
    "Stealing",
    "Vandalism",
)
UCF_FPS = 30.0
COLUMNS = ("video", "split", "label", "frames", "anomaly_intervals")


@dataclass(frozen=True)
class Entry:
    """One video of a data set; `intervals` are (class, start, end) in frames, half-open."""

    video: str
    split: str
    labels: tuple[str, ...]
    frames: int
    fps: float
    path: Path
    intervals: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class Source:
    """A data set: its classes in order (0 = normal) and its videos; `notes` go to the report."""

    dataset: str
    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


def label_text(name: str) -> str:
    """The class name as words: "RoadAccidents" is "road accidents"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def ucf(folder: Path) -> Source:
    """UCF-Crime in its official layout, described by FOLDER/videos.csv.

    Truth that reaches past a video's last frame, as it does by a frame or two in the official
    annotation, is cut there. Raises BadInput for a missing or malformed videos.csv.
    """
    file = folder / "videos.csv"
    if not file.is_file():
        raise BadInput(
            f"{file} is missing; --videos needs a folder with videos.csv "
            f"({','.join(COLUMNS)}) and, to look at pixels, CLASS/VIDEO.mp4."
        )
    entries: dict[str, Entry] = {}
    cut = 0
    with file.open(newline="", encoding="utf-8", errors="replace") as stream:
        for number, row in enumerate(csv.DictReader(stream), 2):
            try:
                video, split, label = row["video"], row["split"], row["label"]
                frames = int(row["frames"])
                spans = [tuple(map(int, s.split("-"))) for s in row["anomaly_intervals"].split()]
                cut += sum(end > frames for _, end in spans)
                intervals = tuple((label, start, min(end, frames)) for start, end in spans)
            except (KeyError, TypeError, ValueError, AttributeError):
                raise BadInput(
                    f"{file}, line {number} is not a row of {','.join(COLUMNS)}; correct it."
                ) from None
            if split not in ("train", "test") or label not in UCF_CLASSES or frames < 1:
                raise BadInput(
                    f"{file}, line {number} ({video}) has split {split!r}, label {label!r} and "
                    f"{frames} frames; give train or test, one of the {len(UCF_CLASSES)} classes "
                    "and 1 or more."
                )
            if video in entries:
                raise BadInput(f"{file}, line {number} lists {video} a second time; remove one.")
            folder_name = label
            if label == UCF_CLASSES[0]:
                kind = "Training" if split == "train" else "Testing"
                folder_name = f"{kind}_Normal_Videos_Anomaly"
            path = folder / folder_name / f"{video}.mp4"
            entries[video] = Entry(video, split, (label,), frames, UCF_FPS, path, intervals)
    if not entries:
        raise BadInput(f"{file} lists no video; it needs rows of {','.join(COLUMNS)}.")
    notes = (f"{cut} intervals reached past the last frame and were cut there",) if cut else ()
    return Source("ucf", UCF_CLASSES, tuple(entries.values()), notes)

"""The data sets as lists of videos: classes, splits, labels, frame counts and temporal truth.

Names, order, splits and truth are the official ones. A folder's `videos.csv` says all of it;
without one the official lists do, and frames are counted by decoding.
"""

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from semvad_jax.files import BadInput

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
XD_CODES = {
    "A": "Normal",
    "B1": "Fighting",
    "B2": "Shooting",
    "B4": "Riot",
    "B5": "Abuse",
    "B6": "CarAccident",
    "G": "Explosion",
}
XD_FPS = 24.0
SNIPPET_FRAMES = 16
USUAL_FPS = 25.0  # where neither the data set nor the file tells the rate
# of files that hold a video of their own; playlists and lists of pictures do not
ENDINGS = {
    f".{name}"
    for name in (
        "mp4 m4v mov qt avi divx mkv webm mpg mpeg mpe m1v m2v vob ts m2ts mts wmv asf flv f4v 3gp "
        "3g2 ogv ogm dv mxf rm rmvb dav h264 264 avc h265 265 hevc mjpeg mjpg y4m nut gif"
    ).split()
}
SHOWN = 10  # names that a list in a sentence has
Intervals = tuple[tuple[str, int, int], ...]
COLUMNS = ("video", "split", "label", "frames", "anomaly_intervals")


class UnreadableVideo(Exception):
    """A video that is missing or damaged, or features that do not fit; its text says why."""


@dataclass(frozen=True)
class Entry:
    """One video of a data set; `intervals` are (class, start, end) in frames, half-open.

    `frames` 0 and `fps` 0 are not known before the video is decoded.
    """

    video: str
    split: str
    labels: tuple[str, ...]
    frames: int
    fps: float
    path: Path
    intervals: Intervals = ()
    # seconds at which each frame begins and the last one ends, [frames + 1], once it is decoded
    times: np.ndarray | None = field(default=None, compare=False, repr=False)
    note: str | None = None  # what the list says and the file does not

    def of_length(self, frames: int, fps: float, times: np.ndarray | None = None) -> "Entry":
        """The entry of a decoded video: truth that reaches past its last frame is cut there."""
        inside = [(name, a, min(b, frames)) for name, a, b in self.intervals if a < frames]
        note = self.note
        if self.frames not in (0, frames):
            note = f"the list says {self.frames} frames, the file has {frames}"
        return replace(
            self,
            frames=frames,
            fps=self.fps or fps,
            intervals=tuple(inside),
            times=times,
            note=note,
        )

    def seconds(self, edges: np.ndarray) -> tuple[float, ...] | None:
        """The times of the frames `edges`; None where they are `edges / fps`, to a millisecond, or
        where they are not known.
        """
        if self.times is None or np.allclose(self.times[edges], edges / self.fps, 0, 1e-3):
            return None
        return tuple(self.times[edges].tolist())


@dataclass(frozen=True)
class Source:
    """A data set: its classes in order (0 = normal) and its videos; `notes` go to the report."""

    dataset: str
    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


def tell_passed_over(files: Sequence[Path]) -> None:
    """Prints which files of a folder are not looked at: the first few, and how many there are."""
    if files:
        names = ", ".join(str(file).encode(errors="replace").decode() for file in files[:SHOWN])
        more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
        print(f"passed over, since their endings are no video's: {names}{more}")


def edges(frames: int, span: int = SNIPPET_FRAMES) -> np.ndarray:
    """Frame boundaries of a video's snippets, int [n + 1]; the last snippet may be shorter."""
    return np.append(np.arange(0, frames, span), frames)


def label_text(name: str) -> str:
    """The class name as words: "RoadAccidents" is "road accidents"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def prompt_text(dataset: str, name: str) -> str:
    """The class name in VadCLIP's learned prompt, which writes UCF-Crime's names as one word."""
    return name.lower() if dataset == "ucf" else label_text(name)


def ucf(folder: Path) -> Source:
    """UCF-Crime: FOLDER/CLASS/VIDEO.mp4, and videos.csv or the two official lists.

    Raises BadInput where neither is there, and for a malformed line.
    """
    train, test = folder / "Anomaly_Train.txt", folder / "Temporal_Anomaly_Annotation.txt"
    if (folder / "videos.csv").is_file() or not (train.is_file() and test.is_file()):
        hint = f"or {train.name} and {test.name}; and, to look at pixels, CLASS/VIDEO.mp4"
        listed = _listed(folder, hint, {name: (name,) for name in UCF_CLASSES}.__getitem__)
    else:
        listed = [*_ucf_train(train), *_ucf_test(test)]
    return _source("ucf", folder, UCF_CLASSES, listed, UCF_FPS, _ucf_folder)


def _ucf_folder(entry: Entry) -> str:
    if entry.labels[0] != UCF_CLASSES[0]:
        return entry.labels[0]
    return f"{'Training' if entry.split == 'train' else 'Testing'}_Normal_Videos_Anomaly"


def _ucf_train(path: Path) -> Iterator[Entry]:
    for number, line in _lines(path):
        folder, _, name = line.partition("/")
        label = UCF_CLASSES[0] if "Normal" in folder else folder
        if label not in UCF_CLASSES or not name.endswith(".mp4"):
            raise BadInput(f"{path}, line {number} is no CLASS/VIDEO.mp4: {line!r}.")
        yield Entry(Path(name).stem, "train", (label,), 0, 0.0, path)


def _ucf_test(path: Path) -> Iterator[Entry]:
    for number, line in _lines(path):
        try:
            name, label, *ends = line.split()
            spans = [(int(a), int(b)) for a, b in zip(ends[::2], ends[1::2], strict=True)]
        except ValueError:
            label, name, spans = "", "", []
        if label not in UCF_CLASSES or len(spans) != 2:
            raise BadInput(f"{path}, line {number} is no VIDEO CLASS and two spans: {line!r}.")
        intervals = tuple((label, a, b) for a, b in spans if a >= 0)
        yield Entry(Path(name).stem, "test", (label,), 0, 0.0, path, intervals)


def xd(folder: Path) -> Source:
    """XD-Violence: videos in folders below FOLDER, and videos.csv or the official annotations.

    A video's labels end its name (`…_label_B2-G-0`) and keep their order. The annotations, where
    they are there, give the truth. Without videos.csv the test videos are the annotated ones and
    what lies in a folder `videos` or `test…`. Raises BadInput where neither file is there, and for
    a malformed line or name.
    """
    annotations = folder / "annotations_multiclasses.txt"
    truth = _xd_truth(annotations) if annotations.is_file() else {}
    if (folder / "videos.csv").is_file() or not truth:
        hint = f"or {annotations.name}; and, to look at pixels, the videos in folders below"
        listed = _listed(folder, hint, _xd_labels)
        listed = [replace(e, intervals=truth.get(e.video, e.intervals)) for e in listed]
    else:
        listed = _xd_official(folder, truth)
    return _source("xd", folder, tuple(XD_CODES.values()), listed, XD_FPS, lambda _: "videos")


def _xd_labels(text: str) -> tuple[str, ...]:
    """The classes of "B2-G-0", in this order; KeyError for another code, or for none."""
    first, *others = text.split("-")
    return tuple(XD_CODES[code] for code in [first, *(code for code in others if code != "0")])


def _xd_truth(path: Path) -> dict[str, Intervals]:
    truth = {}
    for number, line in _lines(path):
        name, *rest = line.split()
        try:
            spans = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
            intervals = tuple((XD_CODES[code], int(a), int(b)) for code, a, b in spans)
        except (ValueError, KeyError):
            raise BadInput(
                f"{path}, line {number} is no VIDEO and CLASS START END …: {line!r}."
            ) from None
        truth[name.removesuffix(".mp4")] = intervals  # some official lines end their names so
    return truth


def _xd_official(folder: Path, truth: Mapping[str, Intervals]) -> list[Entry]:
    entries = []
    for name, path in sorted(({n: folder for n in truth} | _index(folder)).items()):
        folder_name = path.parent.name
        test = name in truth or folder_name == "videos" or folder_name.startswith("test")
        try:
            labels = _xd_labels(name.rpartition("_label_")[2])
        except KeyError:
            raise BadInput(
                f"{folder}: the name {name} does not end in _label_ and codes of "
                f"{', '.join(XD_CODES)}; give the video its official name."
            ) from None
        split = "test" if test else "train"
        entries.append(Entry(name, split, labels, 0, 0.0, path, truth.get(name, ())))
    return entries


def folder(folder: Path) -> Source:
    """Any videos: FOLDER/videos/VIDEO.mp4 (or other endings) and FOLDER/videos.csv.

    Classes are those of the list, `Normal` first, the others in the order of the alphabet. Raises
    BadInput where the list is missing or malformed, or has train videos but no normal one.
    """
    listed = _listed(folder, "and the videos themselves in videos/", lambda label: (label,))
    others = sorted({name for entry in listed for name in entry.labels} - {"Normal"})
    train = {name for entry in listed for name in entry.labels if entry.split == "train"}
    if train and ("Normal" not in train or not others):
        raise BadInput(
            f"{folder / 'videos.csv'} needs train videos with the label Normal and others of at "
            "least one more class; name them so."
        )
    return _source("folder", folder, ("Normal", *others), listed, 0.0, lambda _: "videos")


def own(entries: Sequence[Entry]) -> Source:
    """Videos of a user's own, as one data set of test videos."""
    others = sorted({name for entry in entries for name in entry.labels} - {"Normal"})
    return Source("folder", ("Normal", *others), tuple(entries))


def _source(
    dataset: str,
    folder: Path,
    classes: tuple[str, ...],
    listed: Sequence[Entry],
    fps: float,
    folder_of: Callable[[Entry], str],
) -> Source:
    """The listed videos with their files: where the layout has them, else anywhere below."""
    index = _index(folder)
    entries, names, cut = [], set(), 0
    for entry in listed:
        if entry.video in names:
            raise BadInput(f"{folder} lists {entry.video} a second time; remove one.")
        names.add(entry.video)
        path = folder / folder_of(entry) / f"{entry.video}.mp4"
        path = path if path.is_file() else index.get(entry.video, path)
        entry = replace(entry, path=path, fps=entry.fps or fps)
        if entry.frames:
            cut += sum(end > entry.frames for *_, end in entry.intervals)
            entry = entry.of_length(entry.frames, entry.fps)
        entries.append(entry)
    notes = (f"{cut} intervals reached past the last frame and were cut there",) if cut else ()
    return Source(dataset, classes, tuple(entries), notes)


def _index(folder: Path) -> dict[str, Path]:
    """Every video file below, by its name without ending."""
    files = (path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    return {path.stem: path for path in sorted(files, reverse=True)}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    text = path.read_text(encoding="utf-8", errors="replace")
    return ((n, line.strip()) for n, line in enumerate(text.splitlines(), 1) if line.strip())


def _listed(folder: Path, hint: str, labels_of: Callable[[str], tuple[str, ...]]) -> list[Entry]:
    """The rows of FOLDER/videos.csv; `labels_of` a label text, KeyError where it is none.

    Frames may be left out, and a column `fps` may be there. Intervals are `START-END`, of the
    video's first label, or `LABEL:START-END`.
    """
    file, columns = folder / "videos.csv", ",".join(COLUMNS)
    if not file.is_file():
        raise BadInput(f"{file} is missing; --videos needs a folder with it ({columns}), {hint}.")
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
            rows = list(csv.DictReader(stream))
    except csv.Error as error:
        raise BadInput(f"{file} is no table of {columns} ({error}); correct it.") from None
    entries = []
    for number, row in enumerate(rows, 2):
        where = f"{file}, line {number}"
        try:
            video, split, label, count = (row[name].strip() for name in COLUMNS[:4])
            frames, fps = int(count) if count else 0, float(row.get("fps") or 0)
            spans = [_span(span, label) for span in row["anomaly_intervals"].split()]
            if not video or None in row or not 0 <= fps < math.inf:
                raise ValueError
        except (KeyError, TypeError, ValueError, AttributeError):
            raise BadInput(f"{where} is not a row of {columns}; correct it.") from None
        try:
            assert split in ("train", "test") and label and (frames > 0 or not count)
            labels = labels_of(label)
            intervals = tuple((labels_of(name)[0], a, b) for name, a, b in spans)
        except (AssertionError, KeyError):
            raise BadInput(
                f"{where} ({video}) has split {split!r}, label {label!r} and {frames} frames; "
                "give train or test, classes of the data set and 1 or more (or leave it out)."
            ) from None
        entries.append(Entry(video, split, labels, frames, fps, file, intervals))
    if not entries:
        raise BadInput(f"{file} lists no video; it needs rows of {columns}.")
    return entries


def _span(text: str, label: str) -> tuple[str, int, int]:
    name, colon, span = text.rpartition(":")
    start, end = map(int, span.split("-"))
    if not 0 <= start < end:
        raise ValueError
    return name if colon else label, start, end

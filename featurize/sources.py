"""The data sets as lists of videos: classes, splits, labels, frame counts and temporal truth.

Names, order, splits and truth are the official ones. A folder's `videos.csv` says all of it;
without one the official lists do, and frames are counted by decoding.
"""

import codecs
import csv
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

import numpy as np

from semvad_jax.files import BadInput, printable, refuse_pointer
from semvad_jax.store.format import FASTEST, MOST_FRAMES, require_name

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
# START-END or CLASS:START-END; a class may hold blanks and colons
SPAN = re.compile(
    r"[\s,;]*(?:(?!\d+\s*-\s*\d+[\s,;])([^,;]+?)\s*:\s*)?"
    r"(\d+)(?:\.0+)?\s*[-–]\s*(\d+)(?:\.0+)?(?=[\s,;]|$)"
)
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
        inside = tuple((name, a, min(b, frames)) for name, a, b in self.intervals if a < frames)
        return replace(self, frames=frames, fps=self.fps or fps, intervals=inside, times=times)

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
    unlisted: tuple[Path, ...] = ()  # video files that no list names


def some(names: Sequence[object]) -> str:
    """The first few names, as they can be printed, and how many more there are."""
    shown = ", ".join(printable(str(name)) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


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
        listed = _listed(folder, hint, lambda label: (_ucf_class(label),))
    else:
        listed = [*_ucf_train(train), *_ucf_test(test)]
    return _source("ucf", folder, UCF_CLASSES, listed, UCF_FPS, _ucf_folder)


def _ucf_folder(entry: Entry) -> str:
    if entry.labels[0] != UCF_CLASSES[0]:
        return entry.labels[0]
    return f"{'Training' if entry.split == 'train' else 'Testing'}_Normal_Videos_Anomaly"


def _ucf_class(text: str) -> str:
    """The class of this name, whatever its capitals; KeyError where there is none."""
    return {name.casefold(): name for name in UCF_CLASSES}[text.casefold()]


def _ucf_train(path: Path) -> Iterator[Entry]:
    for number, line in _lines(path):
        folder, _, name = line.replace("\\", "/").partition("/")
        try:
            label = UCF_CLASSES[0] if "normal" in folder.casefold() else _ucf_class(folder)
        except KeyError:
            label = ""
        if not label or "/" in name or PurePath(name).suffix.lower() not in ENDINGS:
            raise BadInput(f"{path}, line {number} is no CLASS/VIDEO.mp4: {line!r}.")
        require_name(without_ending(name), f"{path}, line {number}")
        yield Entry(without_ending(name), "train", (label,), 0, 0.0, path)


def _ucf_test(path: Path) -> Iterator[Entry]:
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        try:
            name, label, *ends = line.split()
            label = _ucf_class(label)
            spans = [(int(a), int(b)) for a, b in zip(ends[::2], ends[1::2], strict=True)]
        except (ValueError, KeyError):
            label, name, spans = "", "", []
        if not label or len(spans) != 2:
            raise BadInput(f"{where} is no VIDEO CLASS and two spans: {line!r}.")
        intervals = tuple((label, a, b) for a, b in spans if (a, b) != (-1, -1))
        if any(a < 0 for _, a, _ in intervals):
            raise BadInput(f"{where} has a span that begins before the video: {line!r}.")
        _require_spans(where, intervals, may_overlap=False)
        require_name(without_ending(name), where)
        yield Entry(without_ending(name), "test", (label,), 0, 0.0, path, intervals)


def xd(folder: Path) -> Source:
    """XD-Violence: videos in folders below FOLDER, and videos.csv or the official annotations.

    A video's labels end its name (`…_label_B2-G-0`) and keep their order. The annotations, where
    they are there, give the truth. Without videos.csv the test videos are the annotated ones and
    what lies in a folder `videos` or `test…`, the train videos those in `train…` or in folders
    named as the official archives are, such as `1-1004`. Raises BadInput where neither file is
    there, for a malformed line or name, and for a folder that says neither.
    """
    annotations = folder / "annotations_multiclasses.txt"
    truth = _xd_truth(annotations) if annotations.is_file() else {}
    if (folder / "videos.csv").is_file() or not truth:
        hint = f"or {annotations.name}; and, to look at pixels, the videos in folders below"
        listed = _listed(folder, hint, _xd_labels, may_overlap=True)
        listed = [replace(e, intervals=truth.get(e.video, e.intervals)) for e in listed]
    else:
        listed = _xd_official(folder, truth)
    return _source("xd", folder, tuple(XD_CODES.values()), listed, XD_FPS, lambda _: "videos")


def _xd_labels(text: str) -> tuple[str, ...]:
    """The classes of "B2-G-0", in this order; KeyError for another code, or for none."""
    first, *others = text.upper().split("-")
    return tuple(XD_CODES[code] for code in [first, *(code for code in others if code != "0")])


def _xd_truth(path: Path) -> dict[str, Intervals]:
    truth = {}
    for number, line in _lines(path):
        name, *rest = line.split()
        where = f"{path}, line {number}"
        try:
            spans = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
            intervals = tuple((XD_CODES[code], int(a), int(b)) for code, a, b in spans)
        except (ValueError, KeyError):
            raise BadInput(f"{where} is no VIDEO and CLASS START END …: {line!r}.") from None
        if any(start < 0 for _, start, _ in intervals):
            raise BadInput(f"{where} has a span that begins before the video: {line!r}.")
        _require_spans(where, intervals, may_overlap=True)  # some official ones do
        name = without_ending(name)  # some official lines end their names so
        require_name(name, where)
        if name in truth:
            raise BadInput(f"{where} annotates {name} a second time; remove one.")
        truth[name] = intervals
    return truth


def _xd_official(folder: Path, truth: Mapping[str, Intervals]) -> list[Entry]:
    files = [path for paths in _index(folder).values() for path in paths]
    names = {without_ending(path.name): path for path in files}
    entries = []
    for name, path in sorted(({n: folder for n in truth} | names).items()):
        try:
            labels = _xd_labels(name.rpartition("_label_")[2])
        except KeyError:
            raise BadInput(
                f"{folder}: the name {name} does not end in _label_ and codes of "
                f"{', '.join(XD_CODES)}; give the video its official name."
            ) from None
        split = "test" if name in truth else _xd_role(folder, path)
        entries.append(Entry(name, split, labels, 0, 0.0, path, truth.get(name, ())))
    return entries


def _xd_role(folder: Path, path: Path) -> str:
    """The split that a folder's name says; BadInput where it says none."""
    for part in reversed(path.relative_to(folder).parts[:-1]):
        name = part.casefold()
        if name == "videos" or name.startswith("test"):
            return "test"
        if name.startswith("train") or re.fullmatch(r"\d+-\d+", name):
            return "train"
    raise BadInput(
        f"{path} is not annotated, and its folder says neither train nor test; name the folder "
        f"train or test, or list the videos in {folder / 'videos.csv'}."
    )


def folder(folder: Path) -> Source:
    """Any videos: FOLDER/videos/VIDEO.mp4 (or other endings) and FOLDER/videos.csv.

    Classes are those of the list, `Normal` first, the others in the order of the alphabet. Raises
    BadInput where the list is missing or malformed, or has train videos but no normal one.
    """
    listed = _listed(folder, "and the videos themselves in videos/", lambda label: (label,))
    _require_distinct(folder / "videos.csv", listed)
    others = sorted({name for entry in listed for name in entry.labels} - {"Normal"})
    train = {name for entry in listed for name in entry.labels if entry.split == "train"}
    if train and ("Normal" not in train or not others):
        raise BadInput(
            f"{folder / 'videos.csv'} needs train videos with the label Normal and others of at "
            "least one more class; name them so."
        )
    return _source("folder", folder, ("Normal", *others), listed, 0.0, lambda _: "videos")


def _require_distinct(file: Path, listed: Sequence[Entry]) -> None:
    """BadInput for two class names that a reader would take for one."""
    seen: dict[str, str] = {}
    for entry in listed:
        for name in (*entry.labels, *(label for label, _, _ in entry.intervals)):
            key = re.sub(r"[\s_-]+", "", _alike(unicodedata.normalize("NFKC", name)))
            first = seen.setdefault(key, name)
            if first != name:
                raise BadInput(
                    f"{file} has the classes {first!r} and {name!r}, which are one class or too "
                    "much alike; write one name."
                )


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
    """The listed videos with their files: where the layout has them, else anywhere below.

    Raises BadInput for a video that is listed twice, and for one that several files could be.
    """
    index, used = _index(folder), set()
    entries, names, cut = [], set(), 0
    for entry in listed:
        if entry.video in names:
            raise BadInput(f"{folder} lists {entry.video} a second time; remove one.")
        names.add(entry.video)
        path = _file_of(folder, folder / folder_of(entry) / f"{entry.video}.mp4", entry, index)
        used.add(path)
        entry = replace(entry, path=path, fps=entry.fps or fps)
        if entry.frames:
            cut += sum(end > entry.frames for *_, end in entry.intervals)
            entry = entry.of_length(entry.frames, entry.fps)
        entries.append(entry)
    notes = (f"{cut} intervals reached past the last frame and were cut there",) if cut else ()
    unlisted = sorted(p for paths in index.values() for p in paths if p not in used)
    return Source(dataset, classes, tuple(entries), notes, tuple(unlisted))


def _file_of(folder: Path, usual: Path, entry: Entry, index: Mapping[str, Sequence[Path]]) -> Path:
    """The file of a listed video; the usual place where it has none."""
    if usual.is_file():
        return usual
    files = index.get(_alike(entry.video), ())
    exact = [path for path in files if without_ending(path.name) == entry.video]
    files = exact or files
    if len(files) > 1:
        raise BadInput(
            f"{folder} has {len(files)} files for the listed video {entry.video}: {files[0]} and "
            f"{files[1]}; leave one of them there."
        )
    return files[0] if files else usual


def _index(folder: Path) -> dict[str, list[Path]]:
    """Every video file below, by what is alike of its name without ending."""
    index: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in ENDINGS and path.is_file():
            index.setdefault(_alike(without_ending(path.name)), []).append(path)
    return index


def without_ending(name: str) -> str:
    """A name without a video's ending; any other dot belongs to the name."""
    path = PurePath(name)
    return path.name[: -len(path.suffix)] if path.suffix.lower() in ENDINGS else path.name


def _alike(name: str) -> str:
    """What is the same of names that differ in Unicode's form or in capitals alone."""
    return unicodedata.normalize("NFC", name).casefold()


def read_list(path: Path) -> str:
    """The text of a list, UTF-8, or UTF-16 where a byte-order mark says so; lines end with \\n.

    Raises BadInput where it is neither.
    """
    refuse_pointer(path)
    content = path.read_bytes()
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadInput(f"{path}, line {line} is not UTF-8; save the list as UTF-8.") from None
    if "\0" in text:
        raise BadInput(f"{path} holds a NUL character and is no list; correct it.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a list that are not blank, with their numbers; BadInput where there is none."""
    lines = enumerate(read_list(path).split("\n"), 1)
    lines = [(number, line.strip()) for number, line in lines if line.strip()]
    if not lines:
        raise BadInput(f"{path} is empty; put the official list there.")
    return lines


def _listed(
    folder: Path,
    hint: str,
    labels_of: Callable[[str], tuple[str, ...]],
    may_overlap: bool = False,
) -> list[Entry]:
    """The rows of FOLDER/videos.csv; `labels_of` a label text, KeyError where it is none.

    Columns are told by their names and separated by commas, semicolons or tabs. Frames may be left
    out, and a column `fps` may be there. Intervals are `START-END`, of the video's first label, or
    `LABEL:START-END`. Raises BadInput with line, column and value for what is not clear.
    """
    file, columns = folder / "videos.csv", ",".join(COLUMNS)
    if not file.is_file():
        raise BadInput(f"{file} is missing; --videos needs a folder with it ({columns}), {hint}.")
    entries = []
    for number, cells in _rows(file):
        cell = _Cell(f"{file}, line {number}", cells)
        video = without_ending(cell.text("video"))
        require_name(video, cell.where)
        cell = replace(cell, where=f"{cell.where} ({video})")
        split, label = cell.text("split").lower(), cell.text("label")
        cell.require("split", split in ("train", "test"), "train or test")
        try:
            labels = labels_of(label)
        except KeyError:
            raise cell.wrong("label", "a class of the data set") from None
        for name in labels:
            require_name(name, f"{cell.where}: a label")
        frames = cell.number("frames")
        cell.require("frames", frames == int(frames) and frames <= MOST_FRAMES, "a whole number")
        cell.require("frames", frames > 0 or not cells["frames"], "1 or more, or leave it out")
        fps = cell.number("fps") if "fps" in cells else 0.0
        cell.require("fps", fps <= FASTEST, f"at most {FASTEST:.0f}, or leave it out")
        intervals = _spans(cell, labels[0], labels_of, may_overlap)
        cell.require("anomaly_intervals", split == "test" or not intervals, "none for train videos")
        entries.append(Entry(video, split, labels, int(frames), fps, file, intervals))
    if not entries:
        raise BadInput(f"{file} lists no video; it needs rows of {columns}.")
    return entries


@dataclass(frozen=True)
class _Cell:
    """The cells of a row by column, and how a wrong one is told."""

    where: str
    cells: Mapping[str, str]

    def text(self, column: str) -> str:
        self.require(column, bool(self.cells[column]), "something")
        return self.cells[column]

    def number(self, column: str) -> float:
        """A number of at least 0; 0 where the cell is blank."""
        try:
            number = float(self.cells[column] or 0)
        except ValueError:
            number = math.nan
        self.require(column, 0 <= number < math.inf, "a number")
        return number

    def require(self, column: str, condition: bool, wanted: str) -> None:
        if not condition:
            raise self.wrong(column, wanted)

    def wrong(self, column: str, wanted: str) -> BadInput:
        return BadInput(f"{self.where}, column {column}: {self.cells[column]!r}; give {wanted}.")


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a table with their line numbers: cells without outer blanks, by column."""
    columns = ",".join(COLUMNS)
    lines = read_list(file).split("\n")
    head = next((line for line in lines if line.strip()), "")
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    try:
        names: list[str] = []
        for row in reader:
            row = [cell.strip() for cell in row]
            if not any(row):
                continue
            if not names:
                names = [name.lower() for name in row]
                missing = [name for name in COLUMNS if name not in names]
                if missing or len(set(names)) < len(names):
                    raise BadInput(
                        f"{file}, line {reader.line_num} does not name the columns {columns} once "
                        f"each ({', '.join(missing) or 'one is there twice'}); correct it."
                    )
                continue
            extra = row[len(names) :]
            if names[-1] == "anomaly_intervals" and all(map(SPAN.fullmatch, extra)):
                row = [*row[: len(names) - 1], " ".join(row[len(names) - 1 :])]  # a-b,c-d
            if len(row) < len(COLUMNS) - 1 or any(row[len(names) :]):
                raise BadInput(
                    f"{file}, line {reader.line_num} has {len(row)} cells where the columns "
                    f"{', '.join(names)} need {len(names)}; correct it."
                )
            row += [""] * (len(names) - len(row))
            yield reader.line_num, dict(zip(names, row, strict=False))
    except csv.Error as error:
        raise BadInput(f"{file} is no table of {columns} ({error}); correct it.") from None


def _spans(
    cell: _Cell, label: str, labels_of: Callable[[str], tuple[str, ...]], may_overlap: bool
) -> Intervals:
    """The intervals of a row; names may hold blanks and colons."""
    text, place, intervals = cell.cells["anomaly_intervals"], 0, []
    while text[place:].strip(" ,;"):
        found = SPAN.match(text, place)
        if not found:
            raise cell.wrong("anomaly_intervals", "START-END or CLASS:START-END")
        name, start, end = found.groups()
        try:
            name = labels_of(name.strip())[0] if name else label
        except KeyError:
            raise cell.wrong("anomaly_intervals", "classes of the data set") from None
        intervals.append((name, int(start), int(end)))
        place = found.end()
    _require_spans(cell.where, intervals, may_overlap)
    return tuple(intervals)


def _require_spans(
    where: str, intervals: Sequence[tuple[str, int, int]], may_overlap: bool
) -> None:
    """BadInput for a span that ends before it begins, and for two of one class that overlap."""
    for name, start, end in intervals:
        if start >= end:
            raise BadInput(f"{where}: {name} from {start} to {end} ends before it begins.")
    ordered = sorted(intervals)
    for (name, start, end), (other, begun, ended) in zip(ordered, ordered[1:], strict=False):
        if name == other and begun < end and not may_overlap:
            raise BadInput(
                f"{where}: {name} from {start} to {end} and from {begun} to {ended} overlap; give "
                "each moment once."
            )

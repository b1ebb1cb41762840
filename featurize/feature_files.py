"""Image features on file, as people have them: `--vision npy:DIR`, one video a file.

    NAME.npy, NAME_i3d.npy, NAME_c3d.npy    [n, F], [n, crops, F] or [crops, n, F]
    NAME__K.npy                             [n, F], crop K of the video
    NAME.txt, NAME_c3d.txt                  32 lines of F numbers, the original layout of C3D

anywhere below DIR; floating-point numbers of any width F, any precision and any order in memory. A
row is a snippet of 16 frames, or, with `--rows even`, one of n equal parts of the video: row i is
made from frames [⌊i·frames/n⌋, ⌊(i+1)·frames/n⌋).

The heads of all files are looked at before anything is made. What is wrong with a file raises
BadInput with its name; a video without a file raises UnreadableVideo, so that a run goes on.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featurize.sources import SNIPPET_FRAMES, Entry, UnreadableVideo, edges, without_ending
from semvad_jax.files import BadInput, refuse_pointer, require
from semvad_jax.store.format import DAMAGED

LAYOUTS = ("n,crops,F", "crops,n,F")  # of arrays with three axes
USUAL_CROPS = (1, 5, 10)  # that published features have
TXT_LINES = 32
SUFFIXES = ("_i3d", "_c3d")

REPEATED = "had one row of features too few; the last was repeated"
DROPPED = "had one row of features too many; the last was dropped"


class Fitted(NamedTuple):
    """Rows [crops, n, F] with the frames at which they begin and the last one ends, [n + 1]."""

    rows: np.ndarray
    edges: np.ndarray
    note: str | None  # how the rows were brought to the video's length


class FeatureFiles:
    """The features of the listed videos below a folder.

    `layout` says which axis of [., ., F] has the crops, where the files do not tell; with `even`
    rows are equal parts of the video. Raises BadInput for files that are damaged, that hold
    objects or whole numbers, and that do not fit each other.
    """

    def __init__(
        self, folder: Path, entries: Sequence[Entry], even: bool, layout: str | None
    ) -> None:
        self.even = even
        self._files = _files_of(folder, {entry.video for entry in entries})
        names = [entry.video for entry in entries if entry.video in self._files]
        require(
            bool(names),
            f"{folder} has features of none of the {len(entries)} listed videos; --vision npy:DIR "
            "needs NAME.npy, NAME__K.npy, NAME_i3d.npy, NAME_c3d.npy or NAME.txt below it.",
        )
        shapes = {path: _shape(path) for name in names for path in self._files[name].values()}
        self._shapes = shapes
        self._most = max(len(self._files[name]) for name in names)
        for name in names:
            self._crops(name)
        self.layout = _layout(folder, shapes, layout)
        self._require_one_width(shapes)
        paths = sorted(shapes)
        self.producer = {
            "model": "features on file",
            "width": self.width,
            "snippets": "equal parts of the video" if even else f"{SNIPPET_FRAMES} frames",
            "layout": self.layout or ("crops in files of their own" if self._most > 1 else "n,F"),
            **identity(folder, paths),
        }

    def _require_one_width(self, shapes: Mapping[Path, tuple[int, ...]]) -> None:
        """Sets `width`, F: what most files have; BadInput where others have another."""
        widths = Counter(shape[-1] for shape in shapes.values())
        self.width = max(widths, key=lambda width: (widths[width], -width))
        for path, shape in shapes.items():
            require(
                shape[-1] == self.width,
                f"{path} has rows of {shape[-1]} numbers, and {widths[self.width]} of "
                f"{len(shapes)} files have {self.width}; give features of one kind.",
            )

    def snippets(self, name: str) -> int:
        """The number of rows n of a video, from the head of one file; UnreadableVideo."""
        shape = self._shapes[self._crops(name)[0]]
        return shape[1] if len(shape) == 3 and self.layout == "crops,n,F" else shape[0]

    def rows(self, name: str) -> np.ndarray:
        """The video's crops in order, float16 [crops, n, F].

        Raises UnreadableVideo where it has no file; BadInput for what is wrong with a file.
        """
        try:
            return stacked(((path, _array(path)) for path in self._crops(name)), self.layout)
        except Damaged as error:
            raise BadInput(f"{error}; make the file again, or leave it out.") from None

    def fitted(self, entry: Entry) -> Fitted:
        """The rows of a video of known length. One row of 16 frames too few or too many is made up
        for at the end.

        Raises BadInput as `rows` does, and for rows that do not fit the frames.
        """
        rows, frames = self.rows(entry.video), entry.frames
        n = rows.shape[1]
        if self.even:
            require(
                n <= frames,
                f"{entry.video} has {n} rows of features, but {frames} frames; leave it out.",
            )
            return Fitted(rows, np.arange(n + 1) * frames // n, None)
        borders = edges(frames)
        needed = len(borders) - 1
        if n == needed - 1:
            return Fitted(np.concatenate([rows, rows[:, -1:]], axis=1), borders, REPEATED)
        require(
            n in (needed, needed + 1),
            f"{entry.video} has {n} rows of features, but {frames} frames make {needed} snippets "
            "of 16; correct its frames in videos.csv, or give --rows even for equal parts.",
        )
        return Fitted(rows[:, :needed], borders, None if n == needed else DROPPED)

    def _crops(self, name: str) -> list[Path]:
        files = self._files.get(name, {})
        if not files:
            raise UnreadableVideo(f"{name}.npy is missing")
        missing = sorted(set(range(self._most)) - files.keys())
        require(
            len(files) == 1 or not missing,
            f"{name} has no features of crop {', '.join(map(str, missing))} ({name}__K.npy); "
            f"crops 0 to {self._most - 1} or one alone can be used.",
        )
        return [path for _, path in sorted(files.items())]


class Damaged(UnreadableVideo):
    """A file of features that cannot be read; its text names the file."""


def _files_of(folder: Path, names: set[str]) -> dict[str, dict[int, Path]]:
    """The files of the named videos: {video: {crop: path}}; crop 0 where the name tells none."""
    files: dict[str, dict[int, Path]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".npy", ".txt")):
        if (found := _video_of(path, names)) is not None:
            name, crop = found
            keep_one(folder, files.setdefault(name, {}), crop, path)
    return files


def _video_of(path: Path, names: set[str]) -> tuple[str, int] | None:
    """Which listed video and crop a file is of; None where it is of none."""
    stem = without_ending(path.name[: -len(path.suffix)])
    for name in (stem, *(stem.removesuffix(end) for end in SUFFIXES)):
        if name in names:
            return name, 0
    head, _, crop = stem.rpartition("__")  # names hold `__` themselves
    return (head, int(crop)) if head in names and crop.isdecimal() else None


def _layout(folder: Path, shapes: Mapping[Path, tuple[int, ...]], asked: str | None) -> str | None:
    """The layout of the arrays with three axes, None where there are none.

    The axis of the crops has one length in all files; where both have, it is that of 1, 5 or 10.
    Raises BadInput where this does not tell.
    """
    for path, shape in shapes.items():
        require(
            len(shape) in (2, 3) and min(shape) > 0,
            f"{path} has shape {list(shape)}, not [n, F], [n, crops, F] or [crops, n, F]; "
            "make it again.",
        )
    deep = {path: shape for path, shape in shapes.items() if len(shape) == 3}
    if not deep:
        require(asked is None, f"--layout {asked} is for arrays of three axes; leave it out.")
        return None
    lengths = {shape[:2] for shape in deep.values()}
    constant = {
        layout: len({shape[axis] for shape in lengths}) == 1
        for layout, axis in zip(LAYOUTS, (1, 0), strict=True)
    }
    if asked is not None:
        require(constant[asked], f"{folder} has no one number of crops under --layout {asked}.")
        return asked
    possible = [layout for layout in LAYOUTS if constant[layout]]
    if len(possible) > 1:
        first, second = next(iter(lengths))
        usual = [second in USUAL_CROPS, first in USUAL_CROPS]
        possible = [x for x, is_usual in zip(LAYOUTS, usual, strict=True) if is_usual]
    require(
        len(possible) == 1,
        f"{next(iter(deep))} has shape {list(next(iter(deep.values())))}, which does not "
        f"tell crops from rows; give --layout {' or --layout '.join(LAYOUTS)}.",
    )
    return possible[0]


def _shape(path: Path) -> tuple[int, ...]:
    """The shape of a file's array, from its head; of a text, from its lines. BadInput."""
    try:
        return _array(path).shape
    except Damaged as error:
        raise BadInput(f"{error}; make the file again, or leave it out.") from None


def _array(path: Path) -> np.ndarray:
    """The array of a file. Raises Damaged, and BadInput for an array of objects."""
    return mapped(path) if path.suffix == ".npy" else _lines(path)


def _lines(path: Path) -> np.ndarray:
    """The rows of a text, float64 [32, F]. Raises Damaged."""
    try:
        lines = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
        rows = np.array([line for line in lines if line], dtype=np.float64)
    except ValueError:  # not numbers, or lines of several lengths
        refuse_pointer(path)
        raise Damaged(f"{path} has no lines of equally many numbers") from None
    if rows.ndim != 2 or len(rows) != TXT_LINES:
        raise Damaged(f"{path} has {len(rows)} lines, not {TXT_LINES}")
    return rows


def stacked(arrays: Iterable[tuple[Path, np.ndarray]], layout: str | None = None) -> np.ndarray:
    """The crops of one video, float16 [crops, n, F], from its files' arrays in the order of crops.

    Raises Damaged where they are of several lengths or not finite.
    """
    crops: list[np.ndarray] = []
    names: list[str] = []
    for path, array in arrays:
        of_file = array[None] if array.ndim == 2 else array
        if array.ndim == 3 and layout == "n,crops,F":
            of_file = array.swapaxes(0, 1)
        crops += [half(path, crop) for crop in of_file]
        names.append(path.name)
        if crops[-1].shape != crops[0].shape:
            raise Damaged(f"{names[-1]} has {len(crops[-1])} rows, {names[0]} has {len(crops[0])}")
    return np.stack(crops)


def keep_one(folder: Path, files: dict, key: str | int, path: Path) -> None:
    """Puts a file under its key; BadInput where another one is there."""
    if key in files:
        first, second = (p.relative_to(folder) for p in (files[key], path))
        raise BadInput(f"{folder} has {first} and {second}; keep one of the two.")
    files[key] = path


def identity(folder: Path, paths: Sequence[Path]) -> dict[str, Any]:
    """What tells one copy of the files from another without reading their tens of gigabytes."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
    return {"files": len(paths), "sha256_of_names_and_sizes": digest.hexdigest()}


def mapped(path: Path) -> np.ndarray:
    """The array of a file, memory-mapped: its head is read, its numbers are not yet.

    Raises Damaged, and BadInput for an array of objects.
    """
    try:
        if _dtype(path).hasobject:
            raise BadInput(
                f"{path} holds Python objects, and reading those runs code from the file; if you "
                "trust its source, save it again as an array of float32."
            )
        array = np.lib.format.open_memmap(path, mode="r")
    except DAMAGED as error:
        if isinstance(error, BadInput):
            raise
        refuse_pointer(path)
        raise Damaged(f"{path.name} is damaged") from None
    if array.dtype.kind != "f":
        raise Damaged(f"{path.name} holds {array.dtype}, not floating-point numbers")
    return array


def _dtype(path: Path) -> np.dtype:
    with path.open("rb") as file:
        first = np.lib.format.read_magic(file) == (1, 0)
        head = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        return head(file)[2]


def half(path: Path, array: np.ndarray) -> np.ndarray:
    """The numbers of a file as float16. Raises Damaged where one is not finite."""
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float16)
    if not np.isfinite(numbers).all():
        raise Damaged(f"{path.name} holds a number that is not finite")
    return numbers


def report(notes: Iterable[str | None]) -> list[str]:
    """How many videos had which note, as sentences for the run's report."""
    counts = Counter(note for note in notes if note)
    return [
        f"{count} video{'s' if count > 1 else ''} {note}" for note, count in sorted(counts.items())
    ]

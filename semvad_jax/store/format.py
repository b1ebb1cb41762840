"""The rules of a feature store's files, shared by the one that writes them and the one that reads.

Every check raises BadInput with one sentence that names the file or the video.
"""

import math
import mmap
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from semvad_jax.files import BadInput, convert, json_lines, read_json, refuse_pointer, require

SCHEMA = 1
# what NumPy raises of a damaged array; it reads the head as Python's tokens
DAMAGED = (ValueError, EOFError, TokenError, SyntaxError, TypeError, OverflowError)
ARRAYS = ("visual.npy", "caption_embedding.npy")
FILES = ("videos.jsonl", *ARRAYS, "captions.jsonl", "class_text.safetensors", "class_words.json")
BESIDE = "videos"  # a folder for what people are shown, see detection/pictures.py; no part of it
SNIPPET_FRAMES = 16
UNLABELLED = "Unlabelled"  # the class of a user's own videos: nobody said what happens
BLOCK = 1 << 22  # elements looked at in one go
LONGEST_NAME = 200  # bytes
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # Unicode's controls, surrogates, line separators
SHORTEST = 0.001  # seconds of a video
MOST_FRAMES, MOST_CROPS, FASTEST = 10**9, 1000, 1000.0  # a year of video; frames a second


@dataclass(frozen=True)
class Video:
    """What is known of one video besides its arrays.

    `frames` are real frames. `intervals` are (class, start, end) in frames, half-open; only test
    videos have them. `binned_from` is the snippet count before a long train video was averaged
    down to `snippets` rows. `seconds` are the times at which the snippets begin and the last one
    ends, n + 1 of them, where they are not `frame_edges / fps` (a varying rate, gaps). `edges` are
    the frames at which they do, where snippets are not of `snippet_frames` each, which is None
    then. A video that could not be read has an `error` and no snippets.
    """

    video: str
    split: str
    labels: tuple[str, ...]
    frames: int
    fps: int | float  # as it was written, so that a copy has the same bytes
    snippets: int
    snippet_frames: int | None = SNIPPET_FRAMES
    crops: int = 1
    binned_from: int | None = None
    intervals: tuple[tuple[str, int, int], ...] = ()
    error: str | None = None
    seconds: tuple[float, ...] | None = None
    edges: tuple[int, ...] | None = None

    @property
    def second_edges(self) -> np.ndarray:
        """When the snippets begin and the last one ends, seconds, float64 [n + 1]."""
        if self.seconds is None:
            return self.frame_edges / self.fps
        return np.array(self.seconds, np.float64)

    def second_of(self, frame: int) -> float:
        """When a frame begins; within a snippet of uneven times the frames are taken as even."""
        if self.seconds is None:
            return frame / self.fps
        return float(np.interp(frame, self.frame_edges, self.second_edges))

    def frame_at(self, seconds: np.ndarray) -> np.ndarray:
        """The inverse of `second_of`, of any array of times; not rounded, and past the ends too."""
        if self.seconds is None:
            return seconds * self.fps
        inside = np.interp(seconds, self.second_edges, self.frame_edges)
        past = np.maximum(seconds - self.second_edges[-1], 0) + np.minimum(seconds, 0)
        return inside + past * self.fps

    @property
    def frame_edges(self) -> np.ndarray:
        """Frame boundaries of the snippets, int64 [n + 1]; the last one is `frames`."""
        if self.edges is not None:
            return np.array(self.edges, np.int64)
        assert self.snippet_frames is not None  # `check_video`
        edges = np.arange(self.snippets + 1)
        if self.binned_from is not None:
            edges = np.linspace(0, self.binned_from, self.snippets + 1).astype(np.int64)
        return np.minimum(edges * self.snippet_frames, self.frames)


def truth_known(video: Video, normal: str) -> bool:
    """Whether it is known which frames of a test video are anomalous.

    Of an anomalous one without intervals it is not: it must not be judged as a normal one.
    """
    anomalous = any(label != normal for label in video.labels)
    return video.split == "test" and (bool(video.intervals) or not anomalous)


def require_name(name: str, where: str) -> None:
    """BadInput unless `name` can be shown in a line and stand for a video or a class."""
    shown = ascii(name if len(name) <= 60 else name[:60] + "…")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = 0
    require(
        0 < size <= LONGEST_NAME and bool(name.strip()),
        f"{where} has the name {shown}; give one of 1 to {LONGEST_NAME} bytes of UTF-8 text.",
    )
    require(
        not any(unicodedata.category(letter) in UNPRINTABLE for letter in name),
        f"{where} has the name {shown} with a control character; give it another name.",
    )


def check_video(video: Video, classes: tuple[str, ...], path: Path) -> None:
    """Require that a video's fields agree with each other and with the classes."""
    require_name(video.video, f"{path}: a video")
    who = f"{path}: {video.video}"
    require(
        video.split in ("train", "test"), f"{who} has split {video.split!r}, not train or test."
    )
    require(bool(video.labels), f"{who} has no label; a normal video has the label {classes[0]}.")
    for label in (*video.labels, *(name for name, _, _ in video.intervals)):
        require(label in classes, f"{who} has label {label!r}, none of {', '.join(classes)}.")
    if video.error is not None:
        require(video.snippets == 0, f"{who} has an error and {video.snippets} snippets, not 0.")
        return
    span = 1 if video.snippet_frames is None else video.snippet_frames
    require(
        min(video.frames, span, video.crops) > 0,
        f"{who} has no frames, no crops or empty snippets; record an error for it instead.",
    )
    require(
        max(video.frames, span) <= MOST_FRAMES and video.crops <= MOST_CROPS,
        f"{who} has {video.frames} frames in snippets of {span} and {video.crops} "
        f"crops; at most {MOST_FRAMES} frames and {MOST_CROPS} crops are believed.",
    )
    require(
        0 < video.fps <= FASTEST,  # not of a NaN
        f"{who} has {video.fps} frames a second; give a rate above 0 and at most {FASTEST:.0f}.",
    )
    _check_snippets(video, who)
    if video.seconds is not None:
        ascending = all(a <= b for a, b in zip(video.seconds, video.seconds[1:], strict=False))
        sane = all(math.isfinite(s) and s >= 0 for s in video.seconds)
        require(
            len(video.seconds) == video.snippets + 1
            and ascending
            and sane
            and video.seconds[-1] >= SHORTEST,
            f"{who} has seconds that are not {video.snippets + 1} times in ascending order, the "
            "beginnings of its snippets and the end.",
        )
    require(
        video.split == "test" or not video.intervals,
        f"{who} is a train video with intervals; weak supervision keeps its label alone.",
    )
    for name, start, end in video.intervals:
        require(
            0 <= start < end <= video.frames,
            f"{who} has {name} in frames [{start}, {end}), outside its {video.frames} frames.",
        )


def _check_snippets(video: Video, who: str) -> None:
    """Require that the snippets fill the video, by their length or by their edges."""
    require(
        (video.edges is None) != (video.snippet_frames is None),
        f"{who} has edges and snippet_frames, or neither; give one of the two.",
    )
    if video.snippet_frames is not None:
        count = -(-video.frames // video.snippet_frames)
        named = video.snippets if video.binned_from is None else video.binned_from
        require(
            named == count and 0 < video.snippets <= count,
            f"{who} has {named} snippets, but {video.frames} frames in snippets of "
            f"{video.snippet_frames} make {count}.",
        )
        return
    edges = list(video.edges or ())
    require(
        len(edges) == video.snippets + 1 > 1
        and (edges[0], edges[-1]) == (0, video.frames)
        and all(a < b for a, b in zip(edges, edges[1:], strict=False))
        and video.binned_from is None,
        f"{who} has edges that are not {video.snippets + 1} frames in ascending order, from 0 to "
        f"{video.frames}.",
    )


def read_videos(path: Path, classes: tuple[str, ...]) -> tuple[Video, ...]:
    """The checked lines of a videos.jsonl, in order."""
    videos: dict[str, Video] = {}
    known = {field.name for field in fields(Video)}
    for where, row in json_lines(path):
        if "edges" in row:
            row = {"snippet_frames": None} | row
        video = convert(row, Video, where, "does not describe a video; make the store again")
        strange = sorted(row.keys() - known)
        require(
            not strange,
            f"{where} does not describe a video (it has {strange[:1]}); make the store again.",
        )
        check_video(video, classes, path)
        require(video.video not in videos, f"{path}: {video.video} is there twice.")
        videos[video.video] = video
    return tuple(videos.values())


@dataclass(frozen=True)
class Caption:
    """A line of a captions.jsonl; `snippet` counts from 0."""

    video: str
    snippet: int
    text: str


def rows_of(name: str, videos: Sequence[Video]) -> list[int]:
    """How many rows of the array `name` each video has."""
    return [v.snippets * (v.crops if name == "visual.npy" else 1) for v in videos]


def starts_of(rows: Sequence[int]) -> np.ndarray:
    """Where each video's rows start, int64 [videos + 1]; the last is the number of rows."""
    return np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])


def open_array(path: Path, width: int, videos: Sequence[Video], look: bool = True) -> np.ndarray:
    """Memory-map a float16 array of the videos' rows and, unless that was done before, look through
    it for numbers that are not finite.
    """
    starts = starts_of(rows_of(path.name, videos))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns of some heads that it did not write
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (*DAMAGED, UserWarning):
        refuse_pointer(path)
        raise BadInput(f"{path} is not an array of plain numbers; make the store again.") from None
    require(
        array.dtype == np.float16 and array.shape == (starts[-1], width),
        f"{path} is {array.dtype} {list(array.shape)}, but the videos and store.json add up to "
        f"float16 {[int(starts[-1]), width]}.",
    )
    step = max(1, BLOCK // width)
    for first in range(0, len(array) if look else 0, step):
        finite = np.isfinite(array[first : first + step]).all(axis=1)
        if not finite.all():
            row = first + int(np.argmin(finite))
            owner = videos[int(np.searchsorted(starts, row, side="right")) - 1].video
            raise BadInput(f"{path}, row {row} ({owner}) holds a number that is not finite.")
    give_back(array)
    return array


def give_back(array: np.ndarray) -> None:
    """Lets the system have the memory of a mapped array's rows that were read."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def read_class_text(path: Path, classes: int, caption_dim: int) -> dict[str, np.ndarray]:
    """The tensors of a class_text.safetensors; `class_caption` [C, Q] and `class_name` [C, any]."""
    try:
        tensors = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, KeyError):
        refuse_pointer(path)
        raise BadInput(f"{path} is not a file of plain tensors; make the store again.") from None
    for name, width in (("class_caption", caption_dim), ("class_name", None)):
        shape = tensors[name].shape if name in tensors else ()
        require(
            len(shape) == 2 and shape[0] == classes and width in (None, shape[1]),
            f"{path}: {name} has shape {list(shape)}, not {[classes, width or 'any']}.",
        )
    for name, value in tensors.items():
        finite = value.dtype.kind != "f" or bool(np.isfinite(value).all())
        require(finite, f"{path}: {name} holds a number that is not finite.")
    return tensors


@dataclass(frozen=True)
class _Info:
    """The keys of store.json that this schema has."""

    dataset: str
    classes: list[str]
    feature_dim: int
    caption_dim: int
    producers: dict[str, Any]
    sha256: dict[str, str]


def read_info(path: Path) -> dict[str, Any]:
    """The store.json of the store at `path`, with the keys this schema has."""
    file = path / "store.json"
    require(
        file.is_file(),
        f"{path} is not a feature store (no store.json); make one with featurize/run.py.",
    )
    refusal = "does not describe a feature store; make it again"
    info = read_json(file, dict[str, Any], refusal)
    schema = info.get("schema")
    require(
        schema == SCHEMA,
        f"{file} has schema {schema}, this program reads {SCHEMA}; make the store again.",
    )
    known = convert(info, _Info, str(file), refusal)
    for name in known.classes:
        require_name(name, f"{file}: a class")
    require(
        len(set(known.classes)) == len(known.classes) > 0,
        f"{file} has no class, or one class twice; make the store again.",
    )
    require(
        min(known.feature_dim, known.caption_dim) > 0 and known.sha256.keys() == set(FILES),
        f"{file} has no checksum of each of {', '.join(FILES)}, or rows without numbers; "
        "make the store again.",
    )
    return info

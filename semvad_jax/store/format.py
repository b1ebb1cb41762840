"""The rules of a feature store's files, shared by the one that writes them and the one that reads.

Every check raises BadInput with one sentence that names the file or the video.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from semvad_jax.files import BadInput, json_lines, read_json, require

SCHEMA = 1
ARRAYS = ("visual.npy", "caption_embedding.npy")
FILES = ("videos.jsonl", *ARRAYS, "captions.jsonl", "class_text.safetensors", "class_words.json")
BLOCK = 1 << 22  # elements looked at in one go


@dataclass(frozen=True)
class Video:
    """What is known of one video besides its arrays.

    `frames` are real frames. `intervals` are (class, start, end) in frames, half-open; only test
    videos have them. `binned_from` is the snippet count before a long train video was averaged
    down to `snippets` rows. A video that could not be read has an `error` and no snippets.
    """

    video: str
    split: str
    labels: tuple[str, ...]
    frames: int
    fps: float
    snippets: int
    snippet_frames: int = 16
    crops: int = 1
    binned_from: int | None = None
    intervals: tuple[tuple[str, int, int], ...] = ()
    error: str | None = None

    @property
    def frame_edges(self) -> np.ndarray:
        """Frame boundaries of the snippets, int64 [n + 1]; the last one is `frames`."""
        edges = np.arange(self.snippets + 1)
        if self.binned_from is not None:
            edges = np.linspace(0, self.binned_from, self.snippets + 1).astype(np.int64)
        return np.minimum(edges * self.snippet_frames, self.frames)


def truth_known(video: Video, normal: str) -> bool:
    """Whether it is known where in a video its anomalies are: a test video is normal, or has
    intervals. Of train videos the labels alone are known.
    """
    return video.split == "test" and (bool(video.intervals) or normal in video.labels)


def check_video(video: Video, classes: tuple[str, ...], path: Path) -> None:
    """Require that a video's fields agree with each other and with the classes."""
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
    require(
        min(video.frames, video.snippet_frames, video.crops) > 0,
        f"{who} has no frames, no crops or empty snippets; record an error for it instead.",
    )
    count = -(-video.frames // video.snippet_frames)
    named = video.snippets if video.binned_from is None else video.binned_from
    require(
        named == count and 0 < video.snippets <= count,
        f"{who} has {named} snippets, but {video.frames} frames in snippets of "
        f"{video.snippet_frames} make {count}.",
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


def read_videos(path: Path, classes: tuple[str, ...]) -> tuple[Video, ...]:
    """The checked lines of a videos.jsonl, in order."""
    videos: dict[str, Video] = {}
    for where, row in json_lines(path):
        try:
            labels = tuple(row["labels"])
            intervals = tuple((str(n), int(a), int(b)) for n, a, b in row["intervals"])
            video = Video(**{**row, "labels": labels, "intervals": intervals})
            check_video(video, classes, path)
        except (LookupError, TypeError, ValueError) as error:
            if isinstance(error, BadInput):
                raise
            raise BadInput(f"{where} does not describe a video; make the store again.") from None
        require(video.video not in videos, f"{path}: {video.video} is there twice.")
        videos[video.video] = video
    return tuple(videos.values())


def rows_of(name: str, videos: Sequence[Video]) -> list[int]:
    """How many rows of the array `name` each video has."""
    return [v.snippets * (v.crops if name == "visual.npy" else 1) for v in videos]


def starts_of(rows: Sequence[int]) -> np.ndarray:
    """Where each video's rows start, int64 [videos + 1]; the last is the number of rows."""
    return np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])


def open_array(path: Path, width: int, videos: Sequence[Video]) -> np.ndarray:
    """Memory-map a float16 array of the videos' rows and look through it once for odd numbers."""
    starts = starts_of(rows_of(path.name, videos))
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        raise BadInput(f"{path} is not an array of plain numbers; make the store again.") from None
    require(
        array.dtype == np.float16 and array.shape == (starts[-1], width),
        f"{path} is {array.dtype} {list(array.shape)}, but the videos and store.json add up to "
        f"float16 {[int(starts[-1]), width]}.",
    )
    step = max(1, BLOCK // width)
    for first in range(0, len(array), step):
        finite = np.isfinite(array[first : first + step]).all(axis=1)
        if not finite.all():
            row = first + int(np.argmin(finite))
            owner = videos[int(np.searchsorted(starts, row, side="right")) - 1].video
            raise BadInput(f"{path}, row {row} ({owner}) holds a number that is not finite.")
    return array


def read_class_text(path: Path, classes: int, caption_dim: int) -> dict[str, np.ndarray]:
    """The tensors of a class_text.safetensors; `class_caption` [C, Q] and `class_name` [C, any]."""
    try:
        tensors = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, KeyError):
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
class _Schema:
    schema: int


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
    schema = read_json(file, _Schema, refusal).schema
    require(
        schema == SCHEMA,
        f"{file} has schema {schema}, this program reads {SCHEMA}; make the store again.",
    )
    read_json(file, _Info, refusal)
    return read_json(file, dict[str, Any], refusal)

"""The feature store: plain float16 arrays, memory-mapped, with JSON Lines beside them.

    videos.jsonl            one line a video, in store order
    visual.npy              float16 [R, F]: for each video its crops, for each crop its n snippets
    caption_embedding.npy   float16 [N, Q]: n rows a video, shared by its crops
    captions.jsonl          {"video", "snippet", "text"}; empty where only embeddings are known
    class_text.safetensors  class_caption [C, Q], class_name [C, D_text], text tower entries
    class_words.json        the words of every class caption, in order, with scores
    store.json              schema, data set, classes, widths, producers, sha256 of all the above

`Writer` makes one, `open` reads and checks one. Nothing in a store depends on the clock or the
machine's name, so equal input gives equal bytes.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors.numpy

from semvad_jax.files import (
    FULL,
    BadInput,
    convert,
    json_line,
    json_lines,
    json_text,
    locked,
    put,
    refuse_pointer,
    remove,
    remove_leftovers,
    require,
    sha256,
    temporary,
)
from semvad_jax.store import verified
from semvad_jax.store.format import (
    ARRAYS,
    BESIDE,
    FILES,
    SCHEMA,
    Caption,
    Video,
    check_video,
    give_back,
    open_array,
    read_class_text,
    read_info,
    read_videos,
    rows_of,
    starts_of,
)

__all__ = ["SCHEMA", "Store", "Video", "Writer", "open"]


@dataclass(frozen=True)
class Store:
    """An opened store; the rows of its arrays follow the order of `videos`."""

    path: Path
    info: dict[str, Any]
    videos: tuple[Video, ...]
    classes: tuple[str, ...]
    visual: np.ndarray
    caption_embedding: np.ndarray
    class_text: dict[str, np.ndarray]

    @property
    def feature_dim(self) -> int:
        """F, the width of a visual row."""
        return self.visual.shape[1]

    @property
    def caption_dim(self) -> int:
        """Q, the width of a caption embedding."""
        return self.caption_embedding.shape[1]

    @cached_property
    def _starts(self) -> dict[str, np.ndarray]:
        return {name: starts_of(rows_of(name, self.videos)) for name in ARRAYS}

    def visual_rows(self, i: int, crop: int = 0) -> np.ndarray:
        """Features of one crop of video i, float16 [n, F]; BadInput for a crop it does not have."""
        video = self.videos[i]
        require(0 <= crop < video.crops, f"{self.path}: {video.video} has no crop {crop}.")
        start = self._starts["visual.npy"][i] + crop * video.snippets
        return self.visual[start : start + video.snippets]

    def caption_rows(self, i: int) -> np.ndarray:
        """Caption embeddings of video i, float16 [n, Q]."""
        start, end = self._starts["caption_embedding.npy"][i : i + 2]
        return self.caption_embedding[start:end]

    def release(self) -> None:
        """Gives back the memory of rows that were read; they are on disk and are read again."""
        for array in (self.visual, self.caption_embedding):
            give_back(array)

    def texts(self, i: int) -> list[str]:
        """The n captions of video i, '' where one is unknown; [] where none is on file."""
        return list(self._texts.get(self.videos[i].video, ()))

    @cached_property
    def _texts(self) -> dict[str, list[str]]:
        snippets = {v.video: v.snippets for v in self.videos}
        texts: dict[str, list[str]] = {}
        for where, row in json_lines(self.path / "captions.jsonl"):
            caption = convert(row, Caption, where, "is not a caption of this store; make it again")
            require(
                0 <= caption.snippet < snippets.get(caption.video, 0),
                f"{where} is not a caption of this store; make it again.",
            )
            here = texts.setdefault(caption.video, [""] * snippets[caption.video])
            here[caption.snippet] = caption.text
        return texts


def open(path: str | Path) -> Store:
    """Open the store at `path`; its arrays stay on disk. They are read whole to check them, unless
    that was done before and no file has changed since (`verified`).

    Raises BadInput, naming the file or the video: a missing file, another schema, a checksum that
    differs, an array of objects, a number that is not finite, lengths that do not add up, a label
    outside the classes.
    """
    path = Path(path)
    info = read_info(path)
    for name in FILES:
        require((path / name).is_file(), f"{path / name} is missing; make the store again.")
    now = verified.marks(path, {name: info["sha256"].get(name, "") for name in FILES})
    seen = verified.known(path, now)
    if not seen:
        _check_sums(path, info["sha256"])
    classes = tuple(info["classes"])
    videos = read_videos(path / "videos.jsonl", classes)
    visual, captions = (
        open_array(path / name, width, videos, look=not seen)
        for name, width in zip(ARRAYS, (info["feature_dim"], info["caption_dim"]), strict=True)
    )
    class_text = read_class_text(path / "class_text.safetensors", len(classes), captions.shape[1])
    if not seen:
        verified.remember(path, now)
    return Store(path, info, videos, classes, visual, captions, class_text)


def _check_sums(path: Path, sums: Mapping[str, str]) -> None:
    """Raises BadInput where a file is not what store.json says of it; files are read side by
    side.
    """
    for name in FILES:
        refuse_pointer(path / name)
    with ThreadPoolExecutor() as pool:  # hashing leaves the interpreter to others
        found = pool.map(sha256, (path / name for name in FILES))
        for name, digest in zip(FILES, found, strict=True):
            require(
                digest == sums.get(name),
                f"{path / name} differs from its checksum in store.json; make the store again.",
            )


class Writer:
    """Write a store video by video: arrays go straight to disk, the store appears at `finish`.

        with Writer(path, dataset="ucf", classes=("Normal", "Fighting"), producers={}) as writer:
            writer.add(video, visual, caption_embedding, texts)
            writer.finish({"class_caption": ..., "class_name": ...}, class_words)

    `producers` may be added to until then. An earlier store at `path` stays as long, and what lies
    in its BESIDE longer; leaving the block by an error removes what was written. Raises BadInput
    where `path` holds something else than a store, where another process writes there, where an
    entry breaks a rule of the format, and where the disk is full. Where `path` is a link, what it
    points to is replaced.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        dataset: str,
        classes: Sequence[str],
        producers: Mapping[str, Any],
    ) -> None:
        self.path = Path(path)
        require_free(self.path)
        self._head = {"schema": SCHEMA, "dataset": dataset, "classes": list(classes)}
        self._classes, self.producers = tuple(classes), dict(producers)
        self._videos: dict[str, Video] = {}
        self._arrays: dict[str, _GrowingArray] = {}
        self._files = contextlib.ExitStack()
        self._target = Path(os.path.realpath(self.path))
        self._partial = temporary(self._target)
        self._lock = contextlib.ExitStack()
        try:
            with self._disk():
                self._target.parent.mkdir(parents=True, exist_ok=True)
                self._lock.enter_context(locked(self._target))
                remove_leftovers(self._target)
                self._partial.mkdir()
                self._captions = self._create("captions.jsonl")
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *exception: object) -> None:
        # On a full disk the last flush fails too; the first error is the one to tell.
        with contextlib.suppress(OSError):
            self._files.close()
        remove(self._partial)
        self._lock.close()

    def add(
        self,
        video: Video,
        visual: np.ndarray | None = None,
        caption_embedding: np.ndarray | None = None,
        texts: Sequence[str] | None = None,
    ) -> None:
        """Append visual [crops, n, F], caption_embedding [n, Q] and n texts; none with an error."""
        who = f"{self.path}: {video.video}"
        check_video(video, self._classes, self.path)
        require(video.video not in self._videos, f"{who} is there twice; make its id unique.")
        if video.error is None:
            lines = [
                {"video": video.video, "snippet": snippet, "text": text}
                for snippet, text in enumerate(texts or ())
            ]
            require(
                texts is None or len(lines) == video.snippets,
                f"{who} has {len(lines)} captions for {video.snippets} snippets.",
            )
            self._append("visual.npy", who, visual, (video.crops, video.snippets))
            self._append("caption_embedding.npy", who, caption_embedding, (video.snippets,))
            with self._disk():
                self._captions.writelines(map(json_line, lines))
        self._videos[video.video] = video

    def finish(self, class_text: Mapping[str, np.ndarray], class_words: Mapping[str, Any]) -> Path:
        """Add the class texts and the checksums, put the store in its place, return its path."""
        require(bool(self._arrays), f"{self.path}: not one video has features; nothing to write.")
        rows = [
            {k: v for k, v in asdict(v).items() if v is not None} for v in self._videos.values()
        ]
        visual, captions = (self._arrays[name].width for name in ARRAYS)
        with self._disk():
            for array in self._arrays.values():
                array.close()
            self._files.close()
            (self._partial / "videos.jsonl").write_bytes(b"".join(map(json_line, rows)))
            tensors = {k: np.ascontiguousarray(v) for k, v in sorted(class_text.items())}
            # not save_file: what it writes only its owner may read
            packed = safetensors.numpy.save(tensors)
            (self._partial / "class_text.safetensors").write_bytes(packed)
            read_class_text(self._partial / "class_text.safetensors", len(self._classes), captions)
            (self._partial / "class_words.json").write_bytes(json_text(class_words))
            tail = {
                "feature_dim": visual,
                "caption_dim": captions,
                "producers": self.producers,
                "sha256": {name: sha256(self._partial / name) for name in FILES},
            }
            (self._partial / "store.json").write_bytes(json_text(self._head | tail))
            _keep(self._target / BESIDE, self._partial / BESIDE)
            put(self._partial, self._target)
        return self.path

    def _create(self, name: str) -> IO[bytes]:
        return self._files.enter_context((self._partial / name).open("wb"))

    def _append(
        self, name: str, who: str, rows: np.ndarray | None, leading: tuple[int, ...]
    ) -> None:
        if rows is None or rows.shape[:-1] != leading:
            shape = None if rows is None else rows.shape
            raise BadInput(f"{who} has shape {shape} for {name}, not {leading} and the width.")
        with np.errstate(over="ignore"):
            half = rows.reshape(-1, rows.shape[-1]).astype("<f2")
        require(bool(np.isfinite(half).all()), f"{who} has a number in {name} that is not finite.")
        with self._disk():
            if name not in self._arrays:
                self._arrays[name] = _GrowingArray(self._create(name), half.shape[1])
            width = self._arrays[name].width
            require(width == half.shape[1], f"{who} has another width in {name} than {width}.")
            self._arrays[name].append(half)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise BadInput(
                f"The disk of {self.path} is full; free some space, then repeat."
            ) from error


def _keep(earlier: Path, now: Path) -> None:
    """Puts what is in the folder `earlier`, if it is there, into `now` too, on the same disk."""
    if earlier.is_symlink():
        now.symlink_to(os.readlink(earlier))
    elif earlier.is_dir():
        shutil.copytree(earlier, now, symlinks=True, copy_function=_linked)


def _linked(file: str, link: str) -> None:
    try:
        os.link(file, link, follow_symlinks=False)
    except OSError:  # a disk that knows no second name for a file
        shutil.copy2(file, link)


def require_free(path: Path) -> None:
    """BadInput where a store cannot be put at `path`: it holds something else than a store."""
    free = not path.exists() or path.is_dir() and not any(path.iterdir())
    require(
        free or (path / "store.json").is_file(),
        f"{path} holds something else than a feature store; give another folder.",
    )


class _GrowingArray:
    """A float16 .npy file [rows, width] whose number of rows is known only when it is closed."""

    def __init__(self, file: IO[bytes], width: int) -> None:
        self.width, self._file, self._rows = width, file, 0
        self._write_header()

    def append(self, rows: np.ndarray) -> None:
        self._file.write(rows.tobytes())
        self._rows += len(rows)

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()  # as long as the first: NumPy pads it for the first axis to grow

    def _write_header(self) -> None:
        header = {"descr": "<f2", "fortran_order": False, "shape": (self._rows, self.width)}
        np.lib.format.write_array_header_1_0(self._file, header)

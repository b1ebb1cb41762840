"""A user's own videos as a feature store like the one that a run was trained on.

FOLDER/store/       the store; FOLDER/store.work/: what the featurizer has finished

Both stay, so that an interrupted call goes on and a second one has only to score; they may be
deleted.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featurize import mistakes, run, sources
from featurize.request import MADE_ONCE, Flags, Request, flags_of
from featurize.sources import ENDINGS, Entry, UnreadableVideo
from semvad_jax.files import BadInput
from semvad_jax.store.format import UNLABELLED

LONGEST = 150  # bytes of a name that comes from a file's


class NothingReadable(BadInput):
    """None of a user's videos can be read; `unreadable` are the reasons, by name."""

    def __init__(self, path: Path, unreadable: Mapping[str, str]) -> None:
        reasons = "; ".join(f"{video}: {reason}" for video, reason in list(unreadable.items())[:3])
        super().__init__(f"no video to score in {path} ({reasons}); give one that a player shows")
        self.unreadable = unreadable


class OwnVideos(NamedTuple):
    """A store of a user's videos; their files, and of those not in it the reasons, by name."""

    store: str
    files: dict[str, Path]
    unreadable: dict[str, str]


def featurize(
    path: Path, folder: Path, producers: Mapping[str, Any], weights: Mapping[str, Path]
) -> OwnVideos:
    """Makes FOLDER/store of a video or of a folder of videos.

    Models are those that made the store whose `producers` these are; `weights` are local folders of
    theirs, by name. A folder with a videos.csv is read as `featurize/run.py --dataset folder` reads
    it, truth included. Raises NothingReadable where no video can be read, and BadInput where the
    `producers` cannot look at other videos, and as `run.make` does.
    """
    flags = flags_of_models(producers)
    with mistakes.as_bad_input():
        entries, unreadable = _readable(path, _entries(path))
    request = Request.like(
        flags,
        "folder",
        videos=path,
        entries=tuple(entries),
        out=folder / "store",
        weights=weights,
    )
    run.make(request)
    return OwnVideos(str(request.out), {e.video: e.path for e in entries}, unreadable)


def flags_of_models(producers: Mapping[str, Any]) -> Flags:
    """The flags that make features of the same kind; BadInput where no model makes them."""
    flags = flags_of(
        producers,
        "the run's store",
        "make the store again, train on it, and detect with that run",
    )
    for name, makers in MADE_ONCE.items():
        maker = getattr(flags, name)
        if maker in makers:
            raise BadInput(
                f"the run was trained on features of --{name} {maker}, which cannot be made "
                "for another video; detect with a run whose store was made by models alone"
            )
    return flags


def _entries(path: Path) -> list[Entry]:
    """The videos that are meant, each under the name that its results will have.

    What a folder holds besides is printed.
    """
    if path.is_dir() and (path / "videos.csv").is_file():
        listed = sources.folder(path).entries
        return [replace(e, video=_safe(e.video), split="test") for e in listed]
    if path.is_dir():
        # hidden folders are left alone: with --out in here, one of them holds our own store
        shown = (p for p in path.rglob("*") if "/." not in f"/{p.relative_to(path).as_posix()}")
        there = sorted(p for p in shown if not p.is_dir())
        files = [p for p in there if p.suffix.lower() in ENDINGS]
        if others := [p.relative_to(path) for p in there if p not in set(files)]:
            print(f"passed over, since their endings are no video's: {sources.some(others)}")
    else:
        files = [path]
    if not path.exists() or not files:
        wanted = "a video, a folder of videos or a feature store"
        raise BadInput(f"{path} is not {wanted}; give the path of one to --detect")
    names = _names(files, path if path.is_dir() else path.parent)
    return [
        Entry(name, "test", (UNLABELLED,), 0, 0.0, file)
        for name, file in zip(names, files, strict=True)
    ]


def _names(files: Sequence[Path], folder: Path) -> list[str]:
    """The files' names without endings; with as much of the path, or of the ending, as it takes for
    no two to be alike.
    """
    inside = [file.relative_to(folder) for file in files]
    forms = (
        [_safe(path.stem) for path in inside],
        [_safe(path.with_suffix("").as_posix()) for path in inside],
        [_safe(path.as_posix()) for path in inside],
        [f"{_safe(path.as_posix())}~{_digits(path)}" for path in inside],  # apart by odd bytes
    )
    counts = [Counter(name.casefold() for name in form) for form in forms]
    return [
        next(
            name
            for name, count in zip(candidates, counts, strict=True)
            if count[name.casefold()] == 1
        )
        for candidates in zip(*forms, strict=True)
    ]


def _digits(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:8]


def _safe(name: str) -> str:
    """A name that a list and a store can hold, whatever bytes the file's has."""
    name = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", "_", name)
    if len(name.encode()) <= LONGEST:
        return name
    return f"{name.encode()[:LONGEST].decode(errors='ignore')}~{_digits(Path(name))}"


def _readable(path: Path, entries: Sequence[Entry]) -> tuple[list[Entry], dict[str, str]]:
    """The entries whose video has a frame, and of the others the reason, by name.

    Raises NothingReadable where there is none.
    """
    from featurize.videos import snippets

    readable, unreadable = [], {}
    for entry in entries:
        try:
            next(snippets(entry.path, np.array([0, 1]), 1))
            readable.append(entry)
        except UnreadableVideo as reason:
            unreadable[entry.video] = str(reason)
    if not readable:
        raise NothingReadable(path, unreadable)
    return readable, unreadable

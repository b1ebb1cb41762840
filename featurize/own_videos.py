"""A user's own videos as a feature store like the one that a run was trained on.

FOLDER/store/       the store; FOLDER/store.work/: what the featurizer has finished

Both stay, so that an interrupted call goes on and a second one has only to score; they may be
deleted.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from featurize import mistakes, run, sources
from featurize.request import MADE_ONCE, Flags, Request, flags_of
from featurize.sources import Entry, UnreadableVideo
from semvad_jax.files import BadInput

ENDINGS = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv")
UNLABELLED = "Unlabelled"  # a class of the temporary store: nobody said what happens


def featurize(
    path: Path, folder: Path, producers: Mapping[str, Any], weights: Mapping[str, Path]
) -> tuple[str, dict[str, Path]]:
    """Makes FOLDER/store of a video or of a folder of videos; returns its path and {name: file}.

    Models are those that made the store whose `producers` these are; `weights` are local folders of
    theirs, by name. A folder with a videos.csv is read as `featurize/run.py --dataset folder` reads
    it, truth included. Raises BadInput where nothing can be read, where two videos have one name,
    where the `producers` cannot look at other videos, and as `run.make` does.
    """
    flags = _flags_of_models(producers)
    with mistakes.as_bad_input():
        entries = _readable(path, _named_apart(_entries(path)))
    request = Request.like(
        flags,
        "folder",
        videos=path,
        entries=tuple(entries),
        out=folder / "store",
        weights=weights,
    )
    run.make(request)
    return str(request.out), {entry.video: entry.path for entry in entries}


def _flags_of_models(producers: Mapping[str, Any]) -> Flags:
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
    """The videos that are meant, each under the name that its results will have."""
    if path.is_dir() and (path / "videos.csv").is_file():
        listed = sources.folder(path).entries
        return [replace(e, video=_safe(e.video), split="test") for e in listed]
    if path.is_dir():
        # hidden folders are left alone: with --out in here, one of them holds our own store
        shown = (p for p in path.rglob("*") if "/." not in f"/{p.relative_to(path).as_posix()}")
        files = sorted(p for p in shown if p.suffix.lower() in ENDINGS and p.is_file())
    else:
        files = [path]
    if not path.exists() or not files:
        wanted = "a video, a folder of videos or a feature store"
        raise BadInput(f"{path} is not {wanted}; give the path of one to --detect")
    return [Entry(_safe(file.stem), "test", (UNLABELLED,), 0, 0.0, file) for file in files]


def _named_apart(entries: Sequence[Entry]) -> Sequence[Entry]:
    """The entries; BadInput where two would have one name."""
    files: dict[str, Path] = {}
    for entry in entries:
        first = files.setdefault(entry.video, entry.path)
        if first is not entry.path:
            raise BadInput(
                f"{first} and {entry.path} would both be written to {entry.video}/; "
                "rename one of them"
            )
    return entries


def _safe(name: str) -> str:
    """A name for a folder and for a list, whatever bytes the file's has."""
    return re.sub(r"^\.|[/\x00-\x1f\x7f\ud800-\udfff]", "_", name)


def _readable(path: Path, entries: Sequence[Entry]) -> list[Entry]:
    """The entries whose video has a frame; the others are printed with the reason."""
    from featurize.videos import snippets

    readable, left_out = [], []
    for entry in entries:
        try:
            next(snippets(entry.path, np.array([0, 1]), 1))
            readable.append(entry)
        except UnreadableVideo as reason:
            left_out.append(f"{entry.path}: {reason}")
    if not readable:
        reasons = "; ".join(left_out[:3])
        raise BadInput(f"no video to score in {path} ({reasons}); give one that a player shows")
    for line in left_out:
        print(f"left out {line}")
    return readable

"""A user's own videos as a feature store like the one that a run was trained on.

FOLDER/input/       links to the videos, and videos.csv
FOLDER/store/       the store; FOLDER/store.work/: what the featurizer has finished

All of it stays, so that an interrupted call goes on and a second one has only to score; it may be
deleted.
"""

import csv
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from featurize import run, sources
from featurize.sources import COLUMNS, Entry, UnreadableVideo
from semvad_jax.files import BadInput

ENDINGS = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv")
UNLABELLED = "Unlabelled"  # a class of the temporary store: nobody said what happens
# What was made once for a set of videos, and cannot be made for another.
ONCE = {
    "vision": ("release",),
    "captioner": ("scripted", "file", "release"),
}


def featurize(
    given: Path, folder: Path, producers: Mapping[str, Any], weights: Sequence[str]
) -> tuple[str, dict[str, Path]]:
    """The path of the store of a video or of a folder of videos, and {name there: file}.

    A folder with a videos.csv is read as `featurize/run.py --dataset folder` reads it, truth
    included. Raises BadInput where nothing can be read, where two videos have one name and where
    the `producers` cannot look at other videos; SystemExit where the featurizer has told a mistake.
    """
    flags = _flags(producers)
    entries = _readable(given, _entries(given))
    _link(folder / "input", entries)
    place = ["--dataset", "folder", "--videos", str(folder / "input")]
    local = ["--weights", *weights] if weights else []
    status = run.main([*place, "--out", str(folder / "store"), *flags, *local])
    if status:
        raise SystemExit(status)
    return str(folder / "store"), {entry.video: entry.path for entry in entries}


def _flags(producers: Mapping[str, Any]) -> list[str]:
    """The featurizer's flags that make features of the same kind."""
    flags = producers.get("flags")
    if flags is None:
        raise BadInput(
            "the run's store does not tell which flags of featurize/run.py made it; make the store "
            "again, train on it, and detect with that run"
        )
    for name, kinds in ONCE.items():
        if flags[name] in kinds:
            raise BadInput(
                f"the run was trained on features of --{name} {flags[name]}, which cannot be made "
                "for another video; detect with a run whose store was made by models alone"
            )
    return [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]


def _entries(given: Path) -> list[Entry]:
    """The videos that are meant, each under the name that its results will have."""
    if given.is_dir() and (given / "videos.csv").is_file():
        return [replace(e, video=_safe(e.video)) for e in sources.folder(given).entries]
    if given.is_dir():
        # hidden folders are left alone: with --out in here, one of them holds our own links
        shown = (p for p in given.rglob("*") if "/." not in f"/{p.relative_to(given).as_posix()}")
        paths = sorted(p for p in shown if p.suffix.lower() in ENDINGS and p.is_file())
    else:
        paths = [given]
    if not given.exists() or not paths:
        kind = "a video, a folder of videos or a feature store"
        raise BadInput(f"{given} is not {kind}; give the path of one to --detect")
    found: dict[str, Path] = {}
    for path in paths:
        name = _safe(path.stem)
        if name in found:
            raise BadInput(
                f"{found[name]} and {path} would both be written to {name}/; rename one of them"
            )
        found[name] = path
    return [Entry(name, "test", (UNLABELLED,), 0, 0.0, path) for name, path in found.items()]


def _safe(name: str) -> str:
    """A name for a folder and for a list, whatever bytes the file's has."""
    return re.sub(r"^\.|[/\x00-\x1f\x7f\ud800-\udfff]", "_", name)


def _readable(given: Path, entries: Sequence[Entry]) -> list[Entry]:
    """The entries whose video has a frame; the others are told."""
    try:
        from featurize.videos import snippets
    except ModuleNotFoundError as error:
        raise BadInput(
            f'{error.name} is missing, which looks at videos; run pip install -e ".[featurize]"'
        ) from None
    readable, told = [], []
    for entry in entries:
        try:
            next(snippets(entry.path, np.array([0, 1]), 1))
            readable.append(entry)
        except UnreadableVideo as reason:
            told.append(f"{entry.path}: {reason}")
    if not readable:
        reasons = "; ".join(told[:3])
        raise BadInput(f"no video to score in {given} ({reasons}); give one that a player shows")
    for line in told:
        print(f"left out {line}")
    return readable


def _link(folder: Path, entries: Sequence[Entry]) -> None:
    """A data set of these videos alone, as `--dataset folder` wants it."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "videos").mkdir(parents=True)
    with (folder / "videos.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow([*COLUMNS, "fps"])
        for entry in entries:
            # whatever its ending: what a file is, its first bytes tell the decoder
            (folder / "videos" / f"{entry.video}.mp4").symlink_to(entry.path.resolve())
            label = entry.labels[0]
            named = (("" if kind == label else f"{kind}:", a, b) for kind, a, b in entry.intervals)
            spans = " ".join(f"{kind}{a}-{b}" for kind, a, b in named)
            rows.writerow([entry.video, "test", label, entry.frames or "", spans, entry.fps or ""])

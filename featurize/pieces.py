"""Finished pieces of a stage, a file a video, so that a second call continues where one stopped.

A stage's folder is named after all that its pieces depend on; a piece is written under another
name and renamed, so it is whole or absent.
"""

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from semvad_jax.config import BadInput


class Pieces:
    """Arrays and JSON values of the stage `stage`, made with the settings `key` (JSON)."""

    def __init__(self, work: Path, stage: str, key: Any) -> None:
        self._stage = stage
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
        self._folder = work / f"{stage}-{digest}"

    def has(self, name: str, *, newer_than: Path | None = None) -> bool:
        """Whether the piece of this name is there, and no older than the file it was made from."""
        for path in (self._path(name, ".npy"), self._path(name, ".json")):
            if path.is_file():
                made_from = newer_than.stat().st_mtime_ns if newer_than else 0
                return path.stat().st_mtime_ns >= made_from
        return False

    def save(self, name: str, value: Any) -> None:
        """Keep an array or a JSON value under this name."""
        if not self._folder.is_dir():
            self._folder.mkdir(parents=True)
            (self._folder.parent / ".gitignore").write_text("*\n")
        array = isinstance(value, np.ndarray)
        for suffix in (".npy", ".json"):
            self._path(name, suffix).unlink(missing_ok=True)
        path = self._path(name, ".npy" if array else ".json")
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            if array:
                np.save(file, value, allow_pickle=False)
            else:
                file.write(json.dumps(value, ensure_ascii=False).encode())
        partial.rename(path)

    def load(self, name: str) -> Any:
        """The array or JSON value of this name; BadInput where its stage has not run."""
        if (path := self._path(name, ".npy")).is_file():
            return np.load(path, allow_pickle=False)
        if (path := self._path(name, ".json")).is_file():
            return json.loads(path.read_bytes())
        raise BadInput(f"Stage {self._stage} has no result for {name} yet; run that stage first.")

    def _path(self, name: str, suffix: str) -> Path:
        return self._folder / (quote(name, safe="") + suffix)

"""Finished pieces of a stage, a file a video, so that a second call continues where one stopped.

A stage's folder is named after all settings that its pieces depend on, a piece after its video and
what it was made from (`source`, a digest). It is written under another name and renamed, so it is
whole or absent, whoever else writes it at the same time; its last bytes are the SHA-256 of the
others, so that a damaged one is made again.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from semvad_jax.files import replacing

LONGEST = 150  # bytes of a name, well below what file systems take
ERROR = ".error.json"
CHECKSUM = hashlib.sha256().digest_size
SUFFIXES = (".npy", ".json", ERROR)


class Pieces:
    """Arrays, JSON values and errors of the stage `stage`, made with the settings `key` (JSON)."""

    def __init__(self, work: Path, stage: str, key: Any) -> None:
        self._folder = work / f"{stage}-{digest(key)}"

    def has(self, name: str, source: str) -> bool:
        """Whether there is a whole piece that is no error."""
        piece = self.load(name, source)
        return piece is not None and not isinstance(piece, Exception)

    def held(self, names: Iterable[str]) -> set[str]:
        """Those of which there is a piece, made from whatever; nothing of it is read."""
        there = {path.name.partition("@")[0] for path in self._folder.glob("*@*")}
        return {name for name in names if _quoted(name) in there}

    def save(self, name: str, source: str, value: Any) -> None:
        """Keep an array or a JSON value; an Exception is kept as its text."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder.parent / ".gitignore").write_text("*\n")
        suffix = ".npy" if isinstance(value, np.ndarray) else ".json"
        suffix = ERROR if isinstance(value, Exception) else suffix
        path = self._path(name, source, suffix)
        if isinstance(value, np.ndarray):
            array = io.BytesIO()
            np.save(array, value, allow_pickle=False)
            content = array.getvalue()
        else:
            text = str(value) if isinstance(value, Exception) else value
            content = json.dumps(text, ensure_ascii=False).encode()
        with replacing(path) as partial, partial.open("wb") as file:
            file.write(content + hashlib.sha256(content).digest())
            file.flush()
            os.fsync(file.fileno())
        for other in SUFFIXES:
            if other != suffix:
                self._path(name, source, other).unlink(missing_ok=True)

    def load(self, name: str, source: str) -> Any:
        """The piece: an array, a JSON value, or an Exception with the kept text; None where there
        is none or where it is damaged.
        """
        for suffix in SUFFIXES:
            if (path := self._path(name, source, suffix)).is_file():
                content = _content(path)
                if content is None:
                    path.unlink()
                elif suffix == ".npy":
                    return np.load(io.BytesIO(content), allow_pickle=False)
                else:
                    value = json.loads(content)
                    return Exception(value) if suffix == ERROR else value
        return None

    def drop(self, name: str, source: str) -> None:
        """Remove a piece."""
        for suffix in SUFFIXES:
            self._path(name, source, suffix).unlink(missing_ok=True)

    def _path(self, name: str, source: str, suffix: str) -> Path:
        return self._folder / f"{_quoted(name)}@{source}{suffix}"


def _quoted(name: str) -> str:
    quoted = quote(name, safe="")
    return quoted if len(quoted) <= LONGEST else f"{quoted[:LONGEST]}~{digest(name)}"


def _content(path: Path) -> bytes | None:
    """What was written into a piece; None where it is not what its last bytes, a SHA-256, say."""
    whole = path.read_bytes()
    content, checksum = whole[:-CHECKSUM], whole[-CHECKSUM:]
    return content if hashlib.sha256(content).digest() == checksum else None


def digest(value: Any) -> str:
    """Twelve letters that tell a JSON value from all others."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]

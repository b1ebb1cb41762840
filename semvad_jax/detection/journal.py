"""The files of a watch: OUT/scores.csv and OUT/events.jsonl of this day, and of each day before
scores-YYYY-MM-DD.csv and events-YYYY-MM-DD.jsonl.

They grow line by line, and every line is written out at once. A later watch in the same folder goes
on with them.
"""

import csv
import io
import os
from collections.abc import Sequence
from datetime import date, datetime
from itertools import count
from pathlib import Path
from typing import Any

from semvad_jax.files import json_line, require


class Journal:
    """The two files; `heading` is the first row of scores.csv.

    Raises BadInput where OUT has scores with another first row.
    """

    def __init__(self, out: Path, heading: Sequence[str]) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._scores = _Daily(out / "scores.csv", _line(heading))
        self._events = _Daily(out / "events.jsonl", b"")

    def score(self, row: Sequence[str], day: date) -> None:
        self._scores.add(_line(row), day)

    def event(self, record: dict[str, Any], day: date) -> None:
        self._events.add(json_line(record), day)

    def close(self) -> None:
        self._scores.close()
        self._events.close()


class _Daily:
    """A file that is another one each day; `head` begins each."""

    def __init__(self, path: Path, head: bytes) -> None:
        self._path, self._head = path, head
        if path.is_file():
            self._day = datetime.fromtimestamp(path.stat().st_mtime).date()
            with path.open("rb") as file:
                first = file.readline()
            require(
                not head or not first.endswith(b"\n") or first == head,
                f"{path} has scores of other classes; name another --out, or move it away",
            )
        else:
            self._day = datetime.now().date()
        self._open()

    def _open(self) -> None:
        self._file = self._path.open("ab", buffering=0)
        end = self._file.tell()
        if end:
            end = _whole(self._path, end)
            self._file.truncate(end)
        if not end:
            self._file.write(self._head)

    def add(self, line: bytes, day: date) -> None:
        """Writes a line of a day; what is there of another day gets that day's name first."""
        if day != self._day:
            self._file.close()
            self._path.rename(self._free_name())
            self._day = day
            self._open()
        self._file.write(line)

    def _free_name(self) -> Path:
        """The file's name with its day; with a number where that is taken, after a clock that was
        set back.
        """
        stem, ending = self._path.stem, self._path.suffix
        names = (f"{stem}-{self._day}{f'.{n}' if n else ''}{ending}" for n in count())
        return next(path for name in names if not (path := self._path.with_name(name)).exists())

    def close(self) -> None:
        self._file.close()


def _whole(path: Path, size: int) -> int:
    """The bytes of a file up to the end of its last whole line: a kill may leave half a line."""
    with path.open("rb") as file:
        start = max(0, size - (1 << 20))
        file.seek(start, os.SEEK_SET)
        tail = file.read()
    return start + tail.rfind(b"\n") + 1


def _line(row: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(row)
    return text.getvalue().encode()

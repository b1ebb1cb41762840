"""Stores that were read whole once, so that opening one again reads little.

Of every file of such a store a record in the user's cache folder keeps its checksum, and the size,
times and inode that it had then. A store whose files are still these is not hashed and looked
through again; `--verify` forgets all records.
"""

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from semvad_jax.files import cache_folder, write

SETTLED = 2.0  # seconds after which a change of a file surely changes its times

Marks = dict[str, tuple[str, int, int, int, int]]  # {file: checksum, size, mtime, ctime, inode}


def marks(path: Path, sums: Mapping[str, str]) -> Marks:
    """What the files of the store at `path` are now, beside their checksums in store.json."""
    of_files = {}
    for name, checksum in sums.items():
        s = (path / name).stat()
        of_files[name] = (checksum, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)
    return of_files


def known(path: Path, now: Marks) -> bool:
    """Whether the store at `path` was read whole when its files were what they are now."""
    try:
        return msgspec.json.decode(_record(path).read_bytes(), type=Marks) == now
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return False


def remember(path: Path, before: Marks) -> None:
    """Records a store that was read whole; `before` are its marks from before that.

    Files that changed a moment ago are not recorded: a second change may leave their times as they
    are. Where nothing can be written, nothing is.
    """
    latest = max(max(mtime, ctime) for _, _, mtime, ctime, _ in before.values())
    if time.time() - latest / 1e9 < SETTLED:
        return
    with contextlib.suppress(OSError):
        _record(path).parent.mkdir(parents=True, exist_ok=True)
        write(_record(path), msgspec.json.encode(before))


def forget() -> None:
    """Drops all records: every store is read whole when it is opened next."""
    shutil.rmtree(_folder(), ignore_errors=True)


def _folder() -> Path:
    return cache_folder() / "verified"


def _record(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()
    return _folder() / f"{name}.json"

"""How files are read and written here: checked, or refused in one sentence; whole, or not at all.

A file that somebody else made is data. JSON is read into a declared form by msgspec, and whatever
does not fit the form is a `BadInput`. A file or folder that is written appears under its name only
when it is complete.
"""

import codecs
import contextlib
import errno
import glob
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from filelock import SoftFileLock, Timeout

Form = TypeVar("Form")

BLOCK = 1 << 22  # bytes that are hashed in one go
POINTER = b"version https://git-lfs"  # what Git LFS leaves in a file's place
MOST = 1 << 26  # bytes of a file that are looked at to say what is wrong with it
FULL = (errno.ENOSPC, errno.EDQUOT)


class BadInput(ValueError):
    """A user's mistake, told in one sentence: what, where, how to fix."""


def printable(text: str) -> str:
    """The text with escapes for what moves a terminal's cursor or cannot be encoded."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def require(condition: bool, sentence: str) -> None:
    """Raises BadInput(sentence) unless the condition holds."""
    if not condition:
        raise BadInput(sentence)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else writes at `path`, a file or a folder, until the block's end.

    .NAME.lock beside it holds the process and its host. A dead process's lock is taken over. Raises
    BadInput where a living process, or one of another host, holds it.
    """
    path = Path(os.path.realpath(path))  # whatever link it is called by
    lock = path.with_name(f".{path.name}.lock")  # hidden: where it lies may be looked through
    try:
        # a second is enough to see that the process is dead, and to try again
        held = SoftFileLock(lock, timeout=1, poll_interval=0.1, thread_local=False).acquire()
    except Timeout:
        holder = "another process"
        with contextlib.suppress(OSError, ValueError):
            process, host = lock.read_text(errors="replace").split("\n")[:2]
            holder = f"process {process} on {host}"
        raise BadInput(
            f"{path} is being written by {holder}; wait until it is done, or stop it (if it is not "
            f"there any more, remove {lock})."
        ) from None
    with held:
        yield


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, for a file or a folder that takes its place at the block's
    end.

    What stood at `path` goes only then. After an error nothing is changed and nothing is left. The
    name is no other program's: where two write one file at the same time, that of the last stands.
    """
    partial = temporary(path)
    try:
        yield partial
        put(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            remove(partial)
        raise


def temporary(path: Path) -> Path:
    """A free name for what will be `path`, as no other call gives it."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")


def remove_leftovers(path: Path) -> None:
    """Removes what killed writers of `path` left; for whoever holds its lock."""
    for partial in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):
        remove(partial)


def put(partial: Path, path: Path) -> None:
    """Gives a finished file or folder its name; an earlier folder goes only once the new stands."""
    if not path.is_dir():
        partial.replace(path)
        return
    earlier = path.with_name(path.name + ".earlier")
    remove(earlier)
    path.rename(earlier)
    partial.rename(path)
    remove(earlier)


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write(path: Path, content: str | bytes) -> None:
    """Writes a whole file, text as UTF-8."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def read_json(path: Path, form: type[Form], refusal: str) -> Form:
    """What a JSON file holds, as `form`: a dataclass, a NamedTuple, dict[str, list[str]], …

    Raises BadInput(f"{path} {refusal}"), with the place in the file where it is known.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=form)
    except msgspec.ValidationError as error:
        raise BadInput(f"{path} {refusal} ({error})") from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        refuse_pointer(path)
        raise BadInput(f"{path} {refusal}") from None


def convert(value: Any, form: type[Form], where: str, refusal: str) -> Form:
    """A value of a JSON file as `form`; BadInput(f"{where} {refusal} (what is wrong)")."""
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as error:
        raise BadInput(f"{where} {refusal} ({error})") from None


def refuse_pointer(path: Path) -> None:
    """BadInput where a file is what Git LFS leaves in a file's place."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        require(
            file.read(len(POINTER)) != POINTER,
            f"{path} is a Git LFS pointer, not the file itself; fetch that with `git lfs pull`.",
        )


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """The values of a JSON Lines file, each with its place for a message.

    A byte-order mark and blank lines are passed over. Raises BadInput for a line that is no JSON.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}, line {number}"
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                refuse_pointer(path)
                if number == 1 and _is_one_value(path):
                    raise BadInput(
                        f"{path} is one JSON value over several lines; write one value a line."
                    ) from None
                raise BadInput(f"{where} is not JSON; correct the line or make it again.") from None
            yield where, value


def _is_one_value(path: Path) -> bool:
    if path.stat().st_size > MOST:
        return False
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return True


def json_line(row: Mapping[str, Any]) -> bytes:
    """One line of a JSON Lines file."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()


def json_text(value: Mapping[str, Any]) -> bytes:
    """A JSON file for people to read."""
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


def cache_folder() -> Path:
    """Where this user's programs keep what can be made again: $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "semvad-jax"


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()

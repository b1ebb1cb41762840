"""How files are read and written here: checked, or refused in one sentence; whole, or not at all.

A file that somebody else made is data. JSON is read into a declared form by msgspec, and whatever
does not fit the form is a `BadInput`. A file or folder that is written appears under its name only
when it is complete.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO, TypeVar

import msgspec

Form = TypeVar("Form")

BLOCK = 1 << 22  # bytes that are hashed in one go


class BadInput(ValueError):
    """A user's mistake, told in one sentence: what, where, how to fix."""


def require(condition: bool, sentence: str) -> None:
    """Raises BadInput(sentence) unless the condition holds."""
    if not condition:
        raise BadInput(sentence)


@contextlib.contextmanager
def replacing(path: Path, shared: bool = False) -> Iterator[Path]:
    """A temporary name beside `path`, for a file or a folder that takes its place at the block's
    end.

    What stood at `path` goes only then. After an error nothing is changed and nothing is left.
    Where several programs may write the same file at the same time (`shared`), each has a temporary
    name of its own, and the file of the last one stands.
    """
    own = f".{secrets.token_hex(4)}" if shared else ""
    partial = path.with_name(f"{path.name}{own}.partial")
    remove(partial)
    try:
        yield partial
        put(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            remove(partial)
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """An exclusive lock for writing at `path`: while it is held, `<name>.lock` stands beside it and
    names the process and the host that hold it.

    Raises BadInput where another program holds it. The lock of a process of this host that is no
    more is taken over.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock, here = path.with_name(path.name + ".lock"), f" on {platform.node()}"
    with _flocked(lock) as (file, free):
        holder = file.read()
        require(
            free and (not holder or holder.endswith(here)),
            f"{path} is being written by {holder or 'another process'}; wait for it, or, if "
            f"nothing writes there any more, remove {lock}",
        )
        file.truncate(0)
        file.write(f"process {os.getpid()}{here}")
        file.flush()
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


@contextlib.contextmanager
def _flocked(lock: Path) -> Iterator[tuple[TextIO, bool]]:
    """The file `lock`, at its beginning, and whether it could be locked for this process."""
    while True:
        with lock.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free = True
            except BlockingIOError:
                free = False
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(file.fileno()).st_ino == lock.stat().st_ino:
                    file.seek(0)
                    yield file, free
                    return
        # its holder has removed it in the meantime


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
        raise BadInput(f"{path} {refusal}") from None


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """The values of a JSON Lines file, each with its place for a message.

    Raises BadInput for a line that is no JSON.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}, line {number}"
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                raise BadInput(f"{where} is not JSON; correct the line or make it again.") from None
            yield where, value


def json_line(row: Mapping[str, Any]) -> bytes:
    """One line of a JSON Lines file."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()


def json_text(value: Mapping[str, Any]) -> bytes:
    """A JSON file for people to read."""
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()

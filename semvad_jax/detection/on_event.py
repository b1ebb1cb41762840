"""A user's command that is told of events: each record as JSON on its standard input.

It runs beside the watch, one record after the other, without a shell. Whatever it does, the watch
goes on: one that takes too long is ended, one that fails is counted.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
from queue import Full, Queue
from typing import Any

from semvad_jax.files import json_line, require

LIMIT = 30.0  # seconds that the command may take
WAITING = 100  # records that may wait for it


class Command:
    """COMMAND of --on-event, split as a shell would. Raises BadInput where there is no such
    program.

    `failed` counts the records of which the command did not end in time with status 0, or which it
    was too slow to be told of.
    """

    def __init__(self, command: str) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError:
            self._words = []
        program = self._words[0] if self._words else ""
        require(
            shutil.which(program) is not None,
            f"--on-event: there is no program {program!r}; give a command that a terminal runs",
        )
        self.failed = 0
        self._records: Queue[dict[str, Any] | None] = Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="on-event", daemon=True)
        self._thread.start()

    def tell(self, record: dict[str, Any]) -> None:
        """Hands a record on, and does not wait."""
        try:
            self._records.put_nowait(record)
        except Full:
            self.failed += 1

    def close(self) -> None:
        """Waits for what was handed on, but no longer than one record may take."""
        with contextlib.suppress(Full):
            self._records.put_nowait(None)
        self._thread.join(timeout=LIMIT)

    def _run(self) -> None:
        while (record := self._records.get()) is not None:
            self.failed += not self._told(record)

    def _told(self, record: dict[str, Any]) -> bool:
        try:
            # a session of its own, so that what it starts ends with it, and Ctrl-C is not for it
            process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            return False
        try:
            process.communicate(json_line(record), timeout=LIMIT)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        return process.returncode == 0

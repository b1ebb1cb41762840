"""How long the calls of one stage take, and how much memory it needs in a process of its own.

jax and torch stay out: the process of a stage has only what the stage itself needs.
"""

import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from semvad_jax.files import BadInput


@dataclass(frozen=True)
class Measured:
    """What a stage's process found."""

    seconds: list[float]  # of each call
    host_bytes: int  # peak memory of the process, libraries included
    device_bytes: int | None  # peak of what the stage allocated there; None without a device
    device: str


@dataclass(frozen=True)
class Stage:
    """A line of the table; `note` says why where nothing was measured."""

    name: str
    model: str
    measured: Measured | None
    snippets: int = 1  # that a call works on
    note: str = ""

    @property
    def seconds(self) -> list[float]:
        """Of each call, a snippet."""
        return [s / self.snippets for s in self.measured.seconds] if self.measured else []


def measure(
    call: Callable[[Any], Any], items: Iterable[Any], warm_up: int, count: int
) -> list[float]:
    """Seconds of `count` calls, an item each, after `warm_up` others; making an item is not in it.

    Raises ValueError where the items run out.
    """
    seconds = []
    for item in islice(items, warm_up + count):
        begun = time.perf_counter()
        call(item)
        seconds.append(time.perf_counter() - begun)
    if len(seconds) < warm_up + count:
        raise ValueError(f"{len(seconds)} items for {warm_up + count} calls")
    return seconds[warm_up:]


def host_peak() -> int:
    """The most memory, in bytes, that this process has held so far.

    On Linux from /proc: there getrusage's peak is never below that of the process that started
    this one.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def processor(threads: int | None = None) -> str:
    """The processor's name and the cores that this process may use, or how many threads it does."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = [*named, platform.processor() or platform.machine()][0]
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return f"{name}, {f'{threads} of ' if threads else ''}{cores} cores"


def alone(stage: str, work: Callable[..., Measured], *arguments: Any) -> Measured:
    """`work(*arguments)` in a new process, so that memory and devices are this stage's alone.

    What it raises comes out here. Raises BadInput where the process is killed.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(work, *arguments).result()
        except BrokenProcessPool:
            raise BadInput(
                f"the process that timed {stage} was killed, as happens where memory runs out; "
                "take a smaller model or a larger machine"
            ) from None

"""How far a stage is, within a long video too: snippets of how many, snippets a second, time left.

A bar on a terminal; elsewhere, where a bar would print nothing, a line a minute.
"""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

Told = Callable[[int], None]  # is called with the number of each few snippets that are done
A_LINE = 60.0  # seconds


def nobody(snippets: int) -> None:
    """In place of whoever is told."""


class Progress:
    """Of a stage `name` whose videos have about as many snippets each as `expected` says, 0 where
    that is not known; what was there before is `done`, and says nothing of the speed.
    """

    def __init__(self, name: str, expected: Sequence[int], done: Sequence[bool]) -> None:
        self._name, self._expected, self._console = name, expected, Console(highlight=False)
        self._seen = [n if d else 0 for n, d in zip(expected, done, strict=True)]
        self._finished, self._worked = sum(done), 0
        self._begun = self._told = 0.0
        self._bar = None
        if self._console.is_terminal:
            words = (
                TextColumn("{task.description:15}"),
                BarColumn(),
                TextColumn("{task.fields[how]}"),
            )
            self._bar = Bar(*words, console=self._console)
            self._task = self._bar.add_task(name, total=1.0, how="")

    def __enter__(self) -> "Progress":
        self._told = time.monotonic()
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar:
            self._bar.stop()

    def more(self, video: int, snippets: int) -> None:
        """Some snippets more of a video are done."""
        self._seen[video] = min(self._seen[video] + snippets, self._expected[video] or 2**60)
        if self._begun:
            self._worked += snippets
        else:  # the first ones' time has the loading of the models in it
            self._begun = time.monotonic()
        self._show()

    def finish(self, video: int) -> None:
        """A video is done, or cannot be."""
        self._seen[video] = self._expected[video]
        self._finished += 1
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if self._bar:
            share = sum(self._seen) / max(sum(self._expected), 1)
            self._bar.update(self._task, completed=share, how=self._how(now))
        elif now - self._told >= A_LINE:
            self._told = now
            self._console.print(f"{self._name}: {self._how(now)}", soft_wrap=True)

    def _how(self, now: float) -> str:
        seen, whole, videos = sum(self._seen), sum(self._expected), len(self._expected)
        told = f"{seen:,} of {whole:,} snippets, {self._finished} of {videos} videos"
        if not self._worked:
            return told
        rate = self._worked / max(now - self._begun, 1e-3)
        left = timedelta(seconds=round(max(whole - seen, 0) / rate))
        return f"{told}, {rate:.1f} snippets/s, {left} left"

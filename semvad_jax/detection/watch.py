"""A stream is scored while it comes: each snippet by all seeds, within the last T snippets.

That is `--eval --lookahead 0`: snippets that were skipped are no part of it, and the last T are
those that were seen last, also across a gap.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float16
from rich.console import Console

from semvad_jax import seeds
from semvad_jax.config import Config
from semvad_jax.detection.detect import cells, heading
from semvad_jax.detection.events import Origin
from semvad_jax.detection.journal import Journal
from semvad_jax.detection.live_events import CLOSED, OPENED, LiveEvents, Scored
from semvad_jax.detection.on_event import Command
from semvad_jax.detection.timeline import written, written_number
from semvad_jax.evaluate import crops_among
from semvad_jax.files import printable
from semvad_jax.types import Frozen, Weights, Windows

LOG_SECONDS = 60.0  # between two lines that say how it goes, where there is no terminal
COLUMNS = ("wall_clock", "left_out")  # of scores.csv, behind those of --detect


@runtime_checkable
class Seen(Protocol):
    """A snippet with its features, which are None where it was skipped; `left_out` says so, or that
    its caption is the one before it. The snippet tells its `number`, its frames (`start`, `end`),
    the `seconds` at which each of them begins and the last one ends, and when the last `arrived`,
    in seconds since 1970.
    """

    @property
    def snippet(self) -> Any: ...
    @property
    def visual(self) -> np.ndarray | None: ...  # float16 [K, F]
    @property
    def caption_embedding(self) -> np.ndarray | None: ...  # float16 [Q]
    @property
    def caption(self) -> str: ...
    @property
    def left_out(self) -> str: ...
    @property
    def picture(self) -> np.ndarray | None: ...  # uint8 [H, W, 3]


@runtime_checkable
class Stream(Protocol):
    """A stream's snippets as they come, None where none has come for a moment. `says` tells what it
    lost, `expected` how many snippets it has, 0 where nobody knows.
    """

    @property
    def expected(self) -> int: ...
    def says(self) -> str: ...
    def __iter__(self) -> Iterator[Any]: ...  # of Seen | None


@runtime_checkable
class Camera(Protocol):
    """What can be watched, `shown` as people are told it, by models whose producers are `used`."""

    @property
    def shown(self) -> str: ...
    @property
    def used(self) -> dict[str, Any]: ...
    def warm_up(self) -> Seen: ...
    def opened(self, tell: Callable[[str], None]) -> AbstractContextManager[Stream]: ...


@runtime_checkable
class Page(Protocol):
    """What shows a watch while it goes on."""

    def show(self, row: Scored, picture: np.ndarray | None) -> None: ...

    def event(self, record: dict[str, Any]) -> None: ...

    def says(self, text: str) -> None: ...


class Ring:
    """The features of the last T snippets, and what all seeds say of the newest."""

    def __init__(self, cfg: Config, frozen: Frozen, weights: Weights, head: str) -> None:
        self._cfg, self._frozen, self._weights, self._head = cfg, frozen, weights, head
        self._length = 0
        self._visual: Float16[np.ndarray, "K T F"] | None = None
        self._captions = np.zeros((cfg.model.length, cfg.data.caption_dim), np.float16)

    def score(
        self, visual: Float16[np.ndarray, "K F"], caption: Float16[np.ndarray, " Q"]
    ) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, " C"] | None]:
        """Takes the next snippet's rows. Returns its anomaly score by each seed, and the mean over
        seeds of its class probabilities; None without a class head.
        """
        visual = visual[crops_among(self._cfg, len(visual))]
        if self._visual is None:
            steps = self._cfg.model.length
            self._visual = np.zeros((len(visual), steps, visual.shape[1]), np.float16)
        if self._length == self._cfg.model.length:
            for rows in (*self._visual, self._captions):
                rows[:-1] = rows[1:]
        else:
            self._length += 1
        self._visual[:, self._length - 1] = visual
        self._captions[self._length - 1] = caption
        length = np.full((1, 1), self._length, np.int32)
        crops = [
            Windows(rows[None, None], self._captions[None, None], length) for rows in self._visual
        ]
        scores = seeds.score_windows(self._cfg, self._frozen, self._weights, crops)
        newest = self._length - 1
        anomaly = [of_seed.head(self._head)[0][newest] for of_seed in scores]
        classes = [of_seed.classes[0][newest] for of_seed in scores if of_seed.classes is not None]
        mean = np.stack(classes).mean(axis=0, dtype=np.float64) if classes else None
        return np.array(anomaly, np.float64), mean


class Watch:
    """A run at work on a stream: its files, the user's command, the page."""

    def __init__(
        self,
        ring: Ring,
        classes: tuple[str, ...],
        origin: Origin,
        source: str,
        out: Path,
        command: Command | None,
        page: Page | None,
    ) -> None:
        """`source` is what is watched, as people are told it; `classes` are none without a class
        head. Raises BadInput where OUT has other scores.
        """
        self._ring, self._classes, self._command, self._page = ring, classes, command, page
        self._journal = Journal(out, columns(classes))
        self._events = LiveEvents(origin.threshold.rule, classes)
        self._about = {"source": source, "run": origin.run}
        self.progress = Progress()
        self.snippets = self.reused = self.events = 0
        self.last: Scored | None = None

    def run(self, stream: Stream, stop: Sequence[int]) -> None:
        """Scores a stream until it ends, or until there is something in `stop`."""
        with self.progress:
            try:
                for seen in stream:
                    if seen is not None:
                        self._add(seen)
                    text = self.says(stream)
                    self.progress.show(text, self.snippets, stream.expected)
                    if self._page is not None:
                        self._page.says(text)
                    if stop:
                        break
            finally:
                self._tell(self._events.close())
                self._journal.close()
                if self._command is not None:
                    self._command.close()

    def says(self, stream: Stream) -> str:
        """How it goes, in a line."""
        parts = [f"{self.snippets} snippet{'s' * (self.snippets != 1)}", stream.says()]
        parts += [f"{self.reused} caption{'s' * (self.reused != 1)} reused"] if self.reused else []
        if self._command is not None and (failed := self._command.failed):
            parts.append(f"--on-event failed {failed} time{'s' * (failed != 1)}")
        if self.last is not None and self.last.mean is not None:
            parts.append(f"score {self.last.mean:.3f}")
        name = self._events.name
        parts.append(f"{self.events} event{'s' * (self.events != 1)}")
        parts += [f"under way: {name}"] if name else []
        return ", ".join(filter(None, parts))

    def _add(self, seen: Seen) -> None:
        snippet, mean, sd, classes = seen.snippet, None, None, None
        if seen.visual is not None and seen.caption_embedding is not None:
            anomaly, classes = self._ring.score(seen.visual, seen.caption_embedding)
            mean = written_number(anomaly.mean())
            sd = written_number(anomaly.std(ddof=1)) if len(anomaly) > 1 else None
            self.snippets += 1
            self.reused += bool(seen.left_out)
        probabilities = np.zeros(0) if classes is None else written(classes)
        start, end = (round(float(second), 3) for second in snippet.seconds[[0, -1]])
        row = Scored(
            snippet=snippet.number,
            frames=(snippet.start, snippet.end),
            seconds=(start, end),
            wall_clock=_clock(snippet.arrived),
            mean=mean,
            sd=sd,
            named="" if classes is None else self._classes[int(probabilities.argmax())],
            probabilities=probabilities,
            caption=seen.caption,
            left_out=seen.left_out,
        )
        self._journal.score(self._cells(row), _day(snippet.arrived))
        self.last = row
        if self._page is not None:
            self._page.show(row, seen.picture)
        self._tell(self._events.add(row))

    def _cells(self, row: Scored) -> list[str]:
        more = [row.wall_clock, row.left_out]
        if row.mean is None:
            some = cells(row.snippet, row.frames, row.seconds, 0.0, None, "", np.zeros(0), "")[:5]
            return [*some, *[""] * (len(columns(self._classes)) - len(some) - len(more)), *more]
        given = row.mean, row.sd, row.named, row.probabilities, row.caption
        return [*cells(row.snippet, row.frames, row.seconds, *given), *more]

    def _tell(self, records: Iterable[dict[str, Any]]) -> None:
        for record in records:
            record = record | self._about
            self.events += record["state"] == OPENED
            self._journal.event(record, datetime.fromisoformat(record["end_wall_clock"]).date())
            if self._command is not None:
                self._command.tell(record)
            if self._page is not None:
                self._page.event(record)
            if record["state"] in (OPENED, CLOSED):
                self.progress.line(_said(record))


def columns(classes: Sequence[str]) -> list[str]:
    """The first row of a watch's scores.csv."""
    return [*heading(classes), *COLUMNS]


def _said(record: dict[str, Any]) -> str:
    when = record["start_wall_clock"][:19].replace("T", " ")
    seconds = record["end_second"] - record["start_second"]
    lasted = f", {seconds:.1f} s" if record["state"] == CLOSED else ""
    return f"event {record['event']} {record['state']}: {record['name']}, since {when}{lasted}"


def _clock(arrived: float) -> str:
    return datetime.fromtimestamp(arrived).astimezone().isoformat(timespec="milliseconds")


def _day(arrived: float) -> date:
    return datetime.fromtimestamp(arrived).date()


class Progress:
    """How a watch goes: one line that changes on a terminal, in a log one a minute."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._status = self._console.status("") if self._console.is_terminal else None
        self._begun = self._said = time.monotonic()

    def __enter__(self) -> "Progress":
        if self._status is not None:
            self._status.start()
        self._begun = self._said = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, text: str, done: int, expected: int) -> None:
        """Tells how it goes; `expected` snippets are `done` in the end, 0 where nobody knows."""
        now = time.monotonic()
        if self._status is None and now - self._said < LOG_SECONDS:
            return
        self._said = now
        rate = done / max(now - self._begun, 1e-9)
        text = f"{text}, {rate:.1f} a second"
        if expected > done and rate:
            text += f", about {(expected - done) / rate:.0f} s left of {expected} snippets"
        if self._status is None:
            self.line(text)
        else:
            self._status.update(printable(text))

    def line(self, text: str) -> None:
        """A line that stays."""
        self._console.print(
            f"{datetime.now():%H:%M:%S}  {printable(text)}", markup=False, soft_wrap=True
        )
        sys.stdout.flush()

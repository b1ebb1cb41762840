"""The events of a stream while they happen: a record where one is opened, goes on and is closed.

They are those that the same rule finds in the scores afterwards (events.py). Of an event no more is
kept than what its record holds, so that one may go on for days.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from semvad_jax.detection.events import Live, Rule, called
from semvad_jax.detection.timeline import written_number

OPENED, UPDATED, CLOSED = "opened", "updated", "closed"
UPDATE = 60.0  # seconds of the stream between two records of an event that goes on
CAPTIONS = 20  # of an event that are kept, the first ones


@dataclass(frozen=True)
class Scored:
    """A stream's snippet as all seeds of a run see it, in the digits that are written.

    Scores are None and captions empty where the snippet was skipped; `left_out` says so, or that
    the caption is the one before it.
    """

    snippet: int
    frames: tuple[int, int]  # half-open
    seconds: tuple[float, float]  # since the stream's first frame
    wall_clock: str  # when its last frame arrived, as ISO 8601 has it
    mean: float | None
    sd: float | None  # None for one seed too
    named: str  # the most probable class; '' without a class head
    probabilities: np.ndarray  # [C]; empty without a class head
    caption: str
    left_out: str


@dataclass
class _Running:
    """The event under way, as sums over its snippets."""

    number: int
    first: Scored
    last: Scored
    snippets: int = 0
    scores: float = 0.0
    probabilities: np.ndarray = field(default_factory=lambda: np.zeros(()))
    captions: dict[str, None] = field(default_factory=dict)
    told: float | None = None  # the second of the stream at which it was told last

    def add(self, row: Scored) -> None:
        assert row.mean is not None
        self.last = row
        self.snippets += 1
        self.scores += row.mean
        self.probabilities = self.probabilities + row.probabilities
        if row.caption and len(self.captions) < CAPTIONS:
            self.captions[row.caption] = None


class LiveEvents:
    """Takes a stream's snippets one after the other and gives the records of its events, as
    events.jsonl has them. Skipped snippets are passed over.
    """

    def __init__(self, rule: Rule, classes: tuple[str, ...]) -> None:
        self._live, self._classes = Live(rule), classes
        self._running: _Running | None = None
        self._number = 0  # of the next event

    @property
    def name(self) -> str | None:
        """What the event under way is called; None while none is told."""
        running = self._running
        if running is None or running.told is None:
            return None
        return called(self._classes, running.probabilities / running.snippets)[0]

    def add(self, row: Scored) -> list[dict[str, Any]]:
        """The records that the next snippet leads to, none mostly."""
        if row.mean is None:
            return []
        records = self._closed(self._live.add(row.mean, *row.seconds))
        if self._live.start is None:
            return records
        if self._running is None:
            self._running = _Running(self._number, row, row)
        running = self._running
        running.add(row)
        if running.told is None and self._live.counts:
            self._number += 1
            records.append(self._record(OPENED))
        elif running.told is not None and row.seconds[1] - running.told >= UPDATE:
            records.append(self._record(UPDATED))
        return records

    def close(self) -> list[dict[str, Any]]:
        """The record of the event that the stream's end closes."""
        return self._closed(self._live.close())

    def _closed(self, snippets: tuple[int, int] | None) -> list[dict[str, Any]]:
        records = [self._record(CLOSED)] if snippets else []
        if self._live.start is None:
            self._running = None
        return records

    def _record(self, state: str) -> dict[str, Any]:
        running = self._running
        assert running is not None
        running.told = running.last.seconds[1]
        means = running.probabilities / running.snippets
        name, label, probability = called(self._classes, means)
        first, last = running.first, running.last
        return {
            "event": running.number,
            "state": state,
            "start_wall_clock": first.wall_clock,
            "end_wall_clock": last.wall_clock,
            "start_second": first.seconds[0],
            "end_second": last.seconds[1],
            "start_frame": first.frames[0],
            "end_frame": last.frames[1],
            "start_snippet": first.snippet,
            "end_snippet": last.snippet + 1,
            "name": name,
            "class": label,
            "class_probability": probability,
            "confidence": written_number(running.scores / running.snippets),
            "captions": list(running.captions),
        }

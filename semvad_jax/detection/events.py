"""Where something happens in a video or a stream: a rule on the anomaly score, and the intervals
that it finds. thresholds.py tells where the rule comes from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semvad_jax.detection.timeline import Timeline, distinct, written_number


@dataclass(frozen=True)
class Rule:
    """An event begins with the first snippet whose score is above `opens`, goes on while scores are
    above `closes`, which is no higher, and counts where it lasts at least `least` seconds.
    """

    opens: float
    closes: float
    least: float = 0.0


@dataclass(frozen=True)
class Threshold:
    """By which rule a video's events are found, and in words where its `opens` comes from."""

    rule: Rule
    source: str

    @property
    def value(self) -> float:
        """The score that opens an event."""
        return self.rule.opens

    def sentence(self) -> str:
        rule = self.rule
        goes_on = f", and goes on above {rule.closes:g}" if rule.closes < rule.opens else ""
        lasts = f", for at least {rule.least:g} s" if rule.least else ""
        return f"an event begins above {rule.opens:g}{goes_on}{lasts}; this is {self.source}"


@dataclass(frozen=True)
class Origin:
    """Which run scores (its directory and its model), with how many seeds and by which head, and
    how high a score makes an event.
    """

    run: str
    model: str
    seeds: int
    head: str
    threshold: Threshold


@dataclass(frozen=True)
class Event:
    """Neighbouring snippets that a rule takes together. Seconds, frames and snippets are half-open
    intervals.

    `label` is the class with the largest mean probability over these snippets and
    `class_probability` that mean; both are None without a class head, and where that class is the
    normal one. `name` is what people are shown. `confidence` is the mean score.
    """

    start_second: float
    end_second: float
    start_frame: int
    end_frame: int
    start_snippet: int
    end_snippet: int
    name: str
    label: str | None
    class_probability: float | None
    confidence: float
    captions: tuple[str, ...]


def spans(scores: np.ndarray, seconds: np.ndarray, rule: Rule) -> np.ndarray:
    """The events of a whole video as [E, 2] snippets, half-open, from its [n] scores and the [n +
    1] seconds at which its snippets begin and the last one ends.
    """
    changes = np.diff(np.concatenate([[0], scores > rule.closes, [0]]))
    starts, ends = np.flatnonzero(changes == 1), np.flatnonzero(changes == -1)
    opening = np.append(np.flatnonzero(scores > rule.opens), len(scores))
    starts = opening[np.searchsorted(opening, starts)]  # past the end where none is high enough
    # compared in milliseconds, as seconds are written: 1.28 − 0.64 is less than 0.64
    lasts = np.round(seconds[ends] - seconds[starts], 3) >= rule.least
    return np.stack([starts, ends], axis=1)[(starts < ends) & lasts]


@dataclass
class Live:
    """The events of a stream: `add` one snippet after the other, and in the end `close`.

    `start` is the snippet with which the event under way began, None while there is none, and
    `counts` whether it has lasted long enough to be told.
    """

    rule: Rule
    snippets: int = 0  # so far
    start: int | None = None
    begun: float = 0.0  # the second of `start`
    counts: bool = False

    def add(self, score: float, begin: float, end: float) -> tuple[int, int] | None:
        """Takes the next snippet, with its seconds. Returns the snippets of an event that was told,
        where this one is the first after it.
        """
        goes_on = score > (self.rule.opens if self.start is None else self.rule.closes)
        closed = None if goes_on else self.close()
        if goes_on:
            if self.start is None:
                self.start, self.begun = self.snippets, begin
            self.counts = round(end - self.begun, 3) >= self.rule.least
        self.snippets += 1
        return closed

    def close(self) -> tuple[int, int] | None:
        """Ends the event under way. Returns its snippets, None where none was told."""
        closed = (self.start, self.snippets) if self.start is not None and self.counts else None
        self.start, self.counts = None, False
        return closed


def events(timeline: Timeline, rule: Rule) -> list[Event]:
    """The events of a video, by its mean scores and its seconds as they are written."""
    found = spans(timeline.mean, np.array(timeline.seconds), rule)
    return [_event(timeline, start, end) for start, end in found.tolist()]


def called(
    classes: Sequence[str], probabilities: np.ndarray
) -> tuple[str, str | None, float | None]:
    """An event's `name`, `label` and `class_probability`, from its mean class probabilities, [C];
    the first class is the normal one.
    """
    if not classes:
        return "something unusual", None, None
    c = int(probabilities.argmax())
    if c == 0:
        return "unusual, no class", None, None
    return classes[c], classes[c], written_number(probabilities[c])


def _event(timeline: Timeline, start: int, end: int) -> Event:
    """The event of the snippets from `start` until before `end`."""
    name, label, probability = called(
        timeline.classes, timeline.probabilities[start:end].mean(axis=0)
    )
    confidence = timeline.mean[start:end].mean()
    return Event(
        start_second=timeline.seconds[start],
        end_second=timeline.seconds[end],
        start_frame=int(timeline.edges[start]),
        end_frame=int(timeline.edges[end]),
        start_snippet=start,
        end_snippet=end,
        name=name,
        label=label,
        class_probability=probability,
        confidence=written_number(confidence),
        captions=distinct(timeline.captions[start:end]),
    )

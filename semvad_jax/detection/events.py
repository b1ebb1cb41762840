"""Where something happens in a video: a threshold on the anomaly score, and the intervals above it.

The threshold is chosen on the normal videos among val, at a rate of false alarms that is stated;
never on test videos.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from semvad_jax.detection.timeline import Timeline, distinct, written

FALSE_ALARM_RATE = 0.05  # at most this share of normal snippets lies above the threshold
UNCHOSEN = 0.5  # where a run has nothing to choose a threshold on


@dataclass(frozen=True)
class Threshold:
    """A snippet is in an event where its mean score is above `value`; `source` tells why there."""

    value: float
    source: str


@dataclass(frozen=True)
class Origin:
    """Which run scores, with which of its heads, and how high a score makes an event."""

    run: str
    model: str
    seeds: int
    head: str
    threshold: Threshold


@dataclass(frozen=True)
class Event:
    """A run of snippets above the threshold; frames and snippets half-open.

    `label` is the anomaly class with the largest mean probability over the run and
    `class_probability` that mean, both None without a class head; `confidence` is the mean score.
    """

    start_second: float
    end_second: float
    start_frame: int
    end_frame: int
    start_snippet: int
    end_snippet: int
    label: str | None
    class_probability: float | None
    confidence: float
    captions: tuple[str, ...]


def lowest_threshold(normal: np.ndarray, rate: float) -> float:
    """The smallest value that at most `rate` of the scores of normal snippets, [N], exceed."""
    falling = np.sort(normal)[::-1]
    # the nudge: 0.05 · 20 must be one snippet whatever the binary digits of 0.05
    return float(falling[min(math.floor(rate * len(falling) + 1e-9), len(falling) - 1)])


def chosen_thresholds(scores: Mapping[str, Sequence[np.ndarray]]) -> dict[str, Any]:
    """What a run keeps: a threshold for each head from its mean scores, [n] a normal val video."""
    videos = next(iter(scores.values()))
    kept: dict[str, Any] = {
        "false_alarm_rate": FALSE_ALARM_RATE,
        "normal_videos": len(videos),
        "normal_snippets": sum(map(len, videos)),
    }
    for head, found in scores.items():
        kept[head] = lowest_threshold(written(np.concatenate(found)), FALSE_ALARM_RATE)
    return kept


def threshold(head: str, kept: Mapping[str, Any] | None, given: float | None) -> Threshold:
    """The given threshold, else the one that a run keeps for the head, else a half."""
    if given is not None:
        return Threshold(given, "given with --threshold")
    if kept is None:
        return Threshold(
            UNCHOSEN,
            "a default: the run has no normal val videos to choose one on, so its rate of false "
            "alarms is not known; give --threshold",
        )
    return Threshold(
        kept[head],
        f"chosen on val: at most {100 * kept['false_alarm_rate']:g} % of the "
        f"{kept['normal_snippets']} snippets of its {kept['normal_videos']} normal videos lie "
        "above it",
    )


def events(timeline: Timeline, above: float) -> list[Event]:
    """The maximal runs of snippets whose mean score is above a threshold."""
    marks = np.concatenate([[0], timeline.mean > above, [0]]).astype(int)
    turns = np.flatnonzero(np.diff(marks)).tolist()
    return [_event(timeline, a, b) for a, b in zip(turns[::2], turns[1::2], strict=True)]


def _event(timeline: Timeline, start: int, end: int) -> Event:
    label = probability = None
    if timeline.classes:
        anomalies = timeline.probabilities[start:end, 1:].mean(axis=0)
        c = int(anomalies.argmax())
        label, probability = timeline.classes[1 + c], float(written(anomalies)[c])
    confidence = timeline.mean[start:end].mean(keepdims=True)
    return Event(
        start_second=timeline.seconds[start],
        end_second=timeline.seconds[end],
        start_frame=int(timeline.edges[start]),
        end_frame=int(timeline.edges[end]),
        start_snippet=start,
        end_snippet=end,
        label=label,
        class_probability=probability,
        confidence=float(written(confidence)[0]),
        captions=distinct(timeline.captions[start:end]),
    )

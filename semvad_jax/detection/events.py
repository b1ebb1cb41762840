"""Where something happens in a video: a threshold on the anomaly score, and the intervals above it.

The threshold is chosen on the normal videos among val, at a rate of false alarms that is stated;
never on test videos.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict, cast

import numpy as np

from semvad_jax.detection.timeline import Timeline, distinct, written

FALSE_ALARM_RATE = 0.05  # at most this share of normal snippets lies above the threshold
UNCHOSEN = 0.5  # where a run has nothing to choose a threshold on


# RUN/checkpoint/thresholds.json: which scores were looked at, and each head's threshold
KeptThresholds = TypedDict(
    "KeptThresholds",
    {
        "false_alarm_rate": float,
        "normal_videos": int,
        "normal_snippets": int,
        "binary": float,
        "class": NotRequired[float],  # where the model has a class head
    },
)


@dataclass(frozen=True)
class Threshold:
    """A snippet is in an event where its mean score is above `value`; `source` says in words where
    that value comes from.
    """

    value: float
    source: str


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
    """Neighbouring snippets whose scores are all above the threshold. Seconds, frames and snippets
    are half-open intervals.

    `label` is the anomaly class with the largest mean probability over these snippets and
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
    """The smallest of the scores of normal snippets, [N], that at most a share `rate` of them
    exceeds.
    """
    falling = np.sort(normal)[::-1]
    # 1e-9 is added so that 0.05 · 20 is one snippet whatever the binary digits of 0.05
    return float(falling[min(math.floor(rate * len(falling) + 1e-9), len(falling) - 1)])


def chosen_thresholds(scores: Mapping[str, Sequence[np.ndarray]]) -> KeptThresholds:
    """What a run keeps: a threshold for each head.

    `scores` holds for each head one array a normal val video: the mean over seeds of the scores of
    its n snippets, [n].
    """
    videos = next(iter(scores.values()))
    kept = {
        "false_alarm_rate": FALSE_ALARM_RATE,
        "normal_videos": len(videos),
        "normal_snippets": sum(map(len, videos)),
    }
    for head, of_videos in scores.items():
        kept[head] = lowest_threshold(written(np.concatenate(of_videos)), FALSE_ALARM_RATE)
    return cast(KeptThresholds, kept)


def threshold(head: str, kept: KeptThresholds | None, by_user: float | None) -> Threshold:
    """The user's threshold where there is one, else the one that a run keeps for the head, else a
    half.
    """
    if by_user is not None:
        return Threshold(by_user, "given with --threshold")
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
    """The longest runs of neighbouring snippets whose mean scores are all above a threshold."""
    marks = np.concatenate([[0], timeline.mean > above, [0]]).astype(int)
    changes = np.diff(marks)
    starts, ends = np.flatnonzero(changes == 1), np.flatnonzero(changes == -1)
    return [_event(timeline, int(a), int(b)) for a, b in zip(starts, ends, strict=True)]


def _event(timeline: Timeline, start: int, end: int) -> Event:
    """The event of the snippets from `start` until before `end`."""
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

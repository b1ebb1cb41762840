"""The page of one video: its timeline drawn as SVG, its events, and a script that follows the
playback and the keyboard.

One file that needs nothing from elsewhere but the video. Its numbers are those of the `Timeline`
that scores.csv is written from.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from semvad_jax.detection.events import Event, Origin
from semvad_jax.detection.pictures import Picture
from semvad_jax.detection.timeline import Timeline, distinct
from semvad_jax.templates import COLOURS, clock, script, template

WIDTH, HEIGHT = 1000, 200  # units of the drawing; a score of 1 is as high as HEIGHT
NORMAL = "#c4c4c4"  # the colour of the normal class
UNNAMED = "#ffffff"  # of events without a class
PATTERNS = 5  # kinds of hatching; with six colours, and no divisor in common, 30 looks
TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)  # seconds
SHOWN_CAPTIONS = 3  # of an event in the table; events.json has all


@dataclass(frozen=True)
class Look:
    """How a class is drawn: a colour, a hatching (0 is plain) and the colour of text on it."""

    id: int  # its place among the run's classes
    name: str
    colour: str
    pattern: int
    text: str


def address(video: Path, folder: Path) -> str:
    """Where a page in `folder` finds the video: a relative address, percent-encoded."""
    return quote(os.fsencode(os.path.relpath(video, folder)))


def render(
    timeline: Timeline,
    events: Sequence[Event],
    origin: Origin,
    address: str | None,
    pictures: Sequence[tuple[Picture, ...]],
) -> str:
    """The page as HTML; `address` is the video's, None where the video is not at hand, and
    `pictures` are those of each event.
    """
    looks = _looks(timeline, events)
    return template("video.html").render(
        timeline=timeline,
        events=events,
        origin=origin,
        address=address,
        pictures=pictures,
        looks=looks,
        drawing=_drawing(timeline, origin.threshold.value),
        spans_of_looks=_spans(timeline, looks),
        ticks=_ticks(timeline.seconds[-1]),
        truth=_truth(timeline),
        data=_data(timeline),
        script=script("video.js"),
        percent=partial(_percent, timeline),
        shown_captions=SHOWN_CAPTIONS,
        width=WIDTH,
        height=HEIGHT,
    )


def _looks(timeline: Timeline, events: Sequence[Event]) -> dict[str, Look]:
    """The looks of the classes that the video's snippets and events have, normal first, and of
    events without a class, by name.
    """
    seen = {*timeline.named, *(event.label for event in events)}
    looks = {}
    for c, name in enumerate(timeline.classes or ("",)):
        if name in seen:
            colour = COLOURS[(c - 1) % len(COLOURS)] if c else NORMAL
            text = "#ffffff" if colour == "#0072b2" else "#000000"
            looks[name] = Look(c, name, colour, (c - 1) % PATTERNS + 1 if c else 0, text)
    for name in dict.fromkeys(event.name for event in events if event.label is None):
        looks[name] = Look(len(timeline.classes), name, UNNAMED, 0, "#000000")
    return looks


def _drawing(timeline: Timeline, threshold: float) -> dict[str, Any]:
    """SVG path data of the mean's line and of the band of ± SD (None for one seed), and the height
    of the threshold.
    """
    x = [f"{WIDTH * second / timeline.seconds[-1]:.2f}" for second in timeline.seconds]
    band = None
    if timeline.sd is not None:
        above = _heights(np.clip(timeline.mean + timeline.sd, 0, 1))
        below = _heights(np.clip(timeline.mean - timeline.sd, 0, 1))
        band = f"M{_steps(x, above)}L{_steps(x[::-1], below[::-1])}Z"
    (height,) = _heights(np.clip([threshold], 0, 1))
    return {"mean": f"M{_steps(x, _heights(timeline.mean))}", "band": band, "threshold": height}


def _spans(timeline: Timeline, looks: dict[str, Look]) -> list[tuple[Look, list[tuple[str, str]]]]:
    """Of each class that some snippet has: its look, and where its runs of snippets lie, as (left,
    width) in per cent of the video.
    """
    spans: dict[str, list[tuple[str, str]]] = {}
    start, seconds = 0, timeline.seconds
    for end in range(1, timeline.snippets + 1):
        if end == timeline.snippets or timeline.named[end] != timeline.named[start]:
            left = _percent(timeline, seconds[start])
            width = _percent(timeline, seconds[end] - seconds[start])
            spans.setdefault(timeline.named[start], []).append((left, width))
            start = end
    return [(looks[name], runs) for name, runs in spans.items()]


def _percent(timeline: Timeline, second: float) -> str:
    """Seconds as a share of the video, as CSS and SVG have it."""
    return f"{100 * second / timeline.seconds[-1]:.3f}%"


def _heights(values: np.ndarray) -> list[str]:
    """Scores in [0, 1] as heights of the drawing, counted from above."""
    return [f"{HEIGHT * (1 - value):.2f}" for value in values]


def _steps(x: Sequence[str], y: Sequence[str]) -> str:
    """SVG path data of a staircase: n heights between n + 1 places."""
    return f"{x[0]} {y[0]}" + "".join(f"V{h}H{end}" for h, end in zip(y, x[1:], strict=True))


def _ticks(duration: float) -> list[tuple[float, str]]:
    """At most seven round times in seconds and their texts, none where the text would stick out on
    the right.
    """
    step = next((s for s in TICKS if duration / s <= 6), math.ceil(duration / 6))
    seconds = range(0, math.ceil(0.95 * duration), step)
    return [(float(second), clock(second).removesuffix(".0")) for second in seconds]


def _truth(timeline: Timeline) -> list[tuple[str, float, float]] | None:
    """The timeline's truth with its frames as seconds."""
    if timeline.truth is None:
        return None
    rows = []
    for name, *frames in timeline.truth:
        start, end = np.interp(frames, timeline.edges, timeline.second_edges).tolist()
        rows.append((name, start, end))
    return rows


def _data(timeline: Timeline) -> dict[str, Any]:
    """What the page's script shows of each snippet. A text that many snippets share is there once,
    and they have its index, −1 where they have none.
    """
    captions, names = distinct(timeline.captions), distinct(timeline.named)
    caption_index = {text: i for i, text in enumerate(captions)} | {"": -1}
    name_index = {name: i for i, name in enumerate(names)} | {"": -1}
    return {
        "seconds": timeline.seconds,
        "mean": timeline.mean.tolist(),
        "sd": None if timeline.sd is None else timeline.sd.tolist(),
        "classes": names,
        "class": [name_index[name] for name in timeline.named],
        "probability": timeline.probabilities.max(axis=1).tolist() if timeline.classes else None,
        "captions": captions,
        "caption": [caption_index[text] for text in timeline.captions],
    }

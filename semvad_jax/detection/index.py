"""What one call of --detect made: OUT/index.json for programs, OUT/index.html for people."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from semvad_jax.detection.events import Event, Origin
from semvad_jax.detection.pictures import Picture
from semvad_jax.detection.timeline import Timeline
from semvad_jax.files import write
from semvad_jax.templates import script, template


@dataclass(frozen=True)
class Row:
    """A video in the index: its `folder` in OUT where it was scored, else the `reason` why not.

    `name`, `class_` and `picture` are those of the event with the highest score; None without an
    event, the last two also where it has none.
    """

    video: str
    folder: str | None
    status: str
    reason: str | None = None
    length_seconds: float | None = None
    events: int | None = None
    highest_score: float | None = None
    name: str | None = None  # what people are shown
    class_: str | None = None
    picture: str | None = None  # a data: address

    @property
    def address(self) -> str:
        """Where the index finds the page of a scored video."""
        return f"{quote(self.folder or '')}/report.html"


def scored(
    folder: str,
    timeline: Timeline,
    events: Sequence[Event],
    pictures: Sequence[tuple[Picture, ...]],
) -> Row:
    """The row of a video whose files lie in OUT/`folder`; `pictures` are those of each event."""
    peaks = [timeline.mean[event.start_snippet : event.end_snippet].max() for event in events]
    name = label = picture = None
    if peaks:
        highest = int(np.argmax(peaks))
        name, label = events[highest].name, events[highest].label
        middle = (shown.address for shown in pictures[highest] if shown.when == "middle")
        picture = next(middle, None)
    return Row(
        timeline.video,
        folder,
        "scored",
        length_seconds=timeline.seconds[-1],
        events=len(events),
        highest_score=float(timeline.mean.max()),
        name=name,
        class_=label,
        picture=picture,
    )


def failed(video: str, reason: str) -> Row:
    """The row of a video that was not scored."""
    return Row(video, None, "failed", reason)


def write_index(out: Path, run: str, rows: Sequence[Row], origin: Origin | None = None) -> None:
    """Writes OUT/index.json, its videos as `rows` has them, and OUT/index.html, the highest score
    first; `origin` is known where a video was scored.
    """
    out.mkdir(parents=True, exist_ok=True)
    index = json.dumps({"run": run, "videos": list(map(_told, rows))}, ensure_ascii=False, indent=1)
    write(out / "index.json", index + "\n")
    write(out / "index.html", render(run, rows, origin))


def _told(row: Row) -> dict[str, Any]:
    shown = ("name", "picture")
    told = {name: value for name, value in asdict(row).items() if name not in shown}
    return {"class" if name == "class_" else name: value for name, value in told.items()}


def render(run: str, rows: Sequence[Row], origin: Origin | None) -> str:
    """The page as HTML."""
    there = [row for row in rows if row.folder is not None]
    return template("index.html").render(
        run=run,
        scored=sorted(there, key=lambda row: row.highest_score or 0.0, reverse=True),
        failed=[row for row in rows if row.folder is None],
        origin=origin,
        script=script("index.js"),
    )

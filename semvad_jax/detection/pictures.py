"""The pictures of a video's events: at most three small JPEGs each, as pages embed them.

They come from whoever can decode the video, or lie beside a store:

STORE/videos/NAME.mp4            the video
STORE/videos/NAME/SNIPPET.jpg    a picture of each of its snippets, counted from 0
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semvad_jax.detection.events import Event
from semvad_jax.detection.timeline import Timeline
from semvad_jax.store import Store
from semvad_jax.store.format import BESIDE

LARGEST = 1 << 16  # bytes of a picture that lies beside a store
JPEG = b"\xff\xd8\xff"  # how a file of that kind begins
Moment = tuple[int, float]  # a frame's number, and a second within it
# JPEGs of a video at ascending moments, by the video's name; None for one that is not to be had
Frames = Callable[[str, Sequence[Moment]], Sequence[bytes | None]]


@dataclass(frozen=True)
class Picture:
    """What an event looks like at its start, middle or end (`when`), in a data: address."""

    when: str
    second: float
    address: str


def of_events(
    timeline: Timeline, events: Sequence[Event], frames: Frames
) -> list[tuple[Picture, ...]]:
    """The pictures of each event."""
    moments = [moment for event in events for moment in moments_of(timeline, event)]
    found = frames(timeline.video, moments) if moments else ()
    pictures = [
        None if jpeg is None else Picture(when, second, _address(jpeg))
        for (_, second), when, jpeg in zip(
            moments, ("start", "middle", "end") * len(events), found, strict=True
        )
    ]
    return [
        tuple(picture for picture in pictures[i : i + 3] if picture)
        for i in range(0, len(pictures), 3)
    ]


def moments_of(timeline: Timeline, event: Event) -> list[Moment]:
    """The middles of an event's first, middle and last frame."""
    last = event.end_frame - 1
    numbers = [event.start_frame, (event.start_frame + last) // 2, last]
    seconds = np.interp(np.array(numbers) + 0.5, timeline.edges, timeline.second_edges)
    return list(zip(numbers, seconds.tolist(), strict=True))


def _address(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def beside(store: Store, names: Mapping[str, str]) -> tuple[dict[str, Path], Frames]:
    """The files of a store's videos that lie beside it, by the videos' names, and their pictures;
    `names` are the videos' names as those of files.
    """
    folder = store.path / BESIDE
    files = {video: folder / f"{name}.mp4" for video, name in names.items()}
    edges = {video.video: video.frame_edges for video in store.videos}

    def frames(video: str, moments: Sequence[Moment]) -> list[bytes | None]:
        numbers = [number for number, _ in moments]
        snippets = np.searchsorted(edges[video], numbers, side="right") - 1
        return [_read(folder / names[video] / f"{snippet}.jpg") for snippet in snippets]

    return {video: file for video, file in files.items() if file.is_file()}, frames


def _read(path: Path) -> bytes | None:
    """A file that is a small JPEG; None for another."""
    if not path.is_file() or path.stat().st_size > LARGEST:
        return None
    jpeg = path.read_bytes()
    return jpeg if jpeg.startswith(JPEG) else None

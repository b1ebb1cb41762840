"""Decode videos: the middle frame of every snippet, read in one pass and in bounded memory."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError


class UnreadableVideo(Exception):
    """A file that is no video, or one that ends before the frames it should have."""


def middle_frames(path: Path, edges: np.ndarray) -> Iterator[np.ndarray]:
    """The frame in the middle of each snippet [edges[i], edges[i + 1]), uint8 [H, W, 3].

    Where that frame is damaged the next readable one stands in. Raises UnreadableVideo where the
    file cannot be opened or too few frames can be read.
    """
    middles = (edges[:-1] + edges[1:]) // 2
    found = 0
    for position, frame in enumerate(_frames(path)):
        while found < len(middles) and middles[found] <= position and frame is not None:
            yield frame.to_ndarray(format="rgb24")
            found += 1
        if found == len(middles):
            return
    raise UnreadableVideo(f"{found} of {len(middles)} snippets could be read")


def _frames(path: Path) -> Iterator[av.VideoFrame | None]:
    """All frames in order, None in the place of a packet that cannot be decoded."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UnreadableVideo("no video stream in this file")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for packet in container.demux(stream):
                try:
                    yield from packet.decode()
                except FFmpegError:
                    # Keeps the frames after a damaged one in their place.
                    yield None
    except FFmpegError as error:
        raise UnreadableVideo(f"not a readable video ({error.strerror})") from None

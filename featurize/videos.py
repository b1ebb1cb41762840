"""Decode videos: some frames of every snippet, in one pass over the file and in bounded memory."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from featurize.sources import UnreadableVideo


def announced_frames(path: Path) -> int:
    """The number of frames that the file's header tells, without decoding; 0 where it does not."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            seconds = (container.duration or 0) / av.time_base
            return stream.frames or round(seconds * float(stream.average_rate or 0))
    except (FFmpegError, IndexError):
        return 0


def probe(path: Path) -> tuple[int, float]:
    """The number of frames, found by decoding them, and their mean rate a second.

    Raises UnreadableVideo for a file without a single readable frame.
    """
    frames = readable = 0
    for frame in _frames(path):
        frames, readable = frames + 1, readable + (frame is not None)
    if not readable:
        raise UnreadableVideo("not one frame of it can be read")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        return frames, float(rate) if rate else 25.0


def snippets(path: Path, edges: np.ndarray, count: int) -> Iterator[list[np.ndarray]]:
    """`count` frames, uint8 [H, W, 3], of each snippet [edges[i], edges[i + 1]): the middles of as
    many equal parts.

    A shorter last snippet repeats frames. Where a frame is damaged the next readable one stands in;
    where a file ends within or before its last snippet, its last frame does. Raises UnreadableVideo
    where the file cannot be opened or ends earlier.
    """
    parts = (2 * np.arange(count) + 1) * np.diff(edges)[:, None] // (2 * count)
    places = (edges[:-1, None] + parts).tolist()
    done: int = 0
    picked: list[np.ndarray] = []
    last = None
    for position, frame in enumerate(_frames(path)):
        if frame is None:
            continue
        last, pixels = frame, None
        while done < len(places) and places[done][len(picked)] <= position:
            pixels = _upright(frame) if pixels is None else pixels
            picked.append(pixels)
            if len(picked) == count:
                yield picked
                done, picked = done + 1, []
        if done == len(places):
            return
    if done < len(places) - 1 or last is None:
        raise UnreadableVideo(f"{done} of {len(places)} snippets could be read")
    yield picked + [_upright(last)] * (count - len(picked))


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """The picture as a player shows it: turned by the angle that phones write beside it."""
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))


def _frames(path: Path) -> Iterator[av.VideoFrame | None]:
    """All frames in order, None in the place of a packet that cannot be decoded."""
    begun = False
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UnreadableVideo("no video stream in this file")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise UnreadableVideo("not a readable video (unknown codec)")
            # with more threads what becomes of a damaged stream would depend on their race
            stream.codec_context.thread_count = 1
            for packet in container.demux(stream):
                try:
                    for frame in packet.decode():
                        begun = True
                        yield frame
                except FFmpegError:
                    # Keeps the frames after a damaged one in their place.
                    yield None
    except FFmpegError as error:
        if not begun:
            raise UnreadableVideo(f"not a readable video ({error.strerror})") from None

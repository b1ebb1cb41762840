"""Decode videos: some frames of every snippet, in one pass over the file and in bounded memory."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import av
import av.container
import numpy as np
from av.error import FFmpegError

from featurize.sources import USUAL_FPS, UnreadableVideo

# Titles in another encoding than UTF-8 are common, and nothing is read of them. PyAV before 19
# refuses such a file unless it is told not to; PyAV 19 opens it, and has no such argument.
ANY_TITLE: dict[str, Any] = (
    {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}
)


def announced(path: Path) -> tuple[int, float]:
    """Frames and rate as the file's head tells them, without decoding; 0 where it does not."""
    try:
        with _open(path) as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or stream.guessed_rate or 0)
            seconds = (container.duration or 0) / av.time_base
            return stream.frames or round(seconds * rate), rate
    except (FFmpegError, IndexError):
        return 0, 0.0


def probe(path: Path, most: int | None = None) -> tuple[int, float]:
    """The number of frames, found by decoding `most` of them at most, and their mean rate a second.

    Raises UnreadableVideo for a file without a single readable frame.
    """
    frames = readable = 0
    for frame in islice(_frames(path), most):
        frames, readable = frames + 1, readable + (frame is not None)
    if not readable:
        raise UnreadableVideo("not one frame of it can be read")
    return frames, announced(path)[1] or USUAL_FPS


def part_middles(length: int, count: int) -> list[int]:
    """The middles of `count` equal parts of a snippet of `length` frames."""
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def snippets(path: Path, edges: np.ndarray, count: int) -> Iterator[list[np.ndarray]]:
    """`count` frames, uint8 [H, W, 3], of each snippet [edges[i], edges[i + 1]): the middles of as
    many equal parts.

    A shorter last snippet repeats frames. Where a frame is damaged the next readable one stands in;
    where a file ends within or before its last snippet, its last frame does. Raises UnreadableVideo
    where the file cannot be opened or ends earlier.
    """
    starts, lengths = edges[:-1].tolist(), np.diff(edges).tolist()
    wanted = [
        [start + middle for middle in part_middles(length, count)]
        for start, length in zip(starts, lengths, strict=True)
    ]
    done: int = 0
    picked: list[np.ndarray] = []
    last = None
    for position, frame in enumerate(_frames(path)):
        if frame is None:
            continue
        pixels = None
        while done < len(wanted) and wanted[done][len(picked)] <= position:
            pixels = _upright(frame) if pixels is None else pixels
            if pixels is None:  # damaged in a way that shows only now
                break
            picked.append(pixels)
            if len(picked) == count:
                yield picked
                done, picked = done + 1, []
        if done == len(wanted):
            return
        last = frame
    end = _upright(last) if last is not None and done == len(wanted) - 1 else None
    if end is None:
        raise UnreadableVideo(f"{done} of {len(wanted)} snippets could be read")
    yield picked + [end] * (count - len(picked))


def _upright(frame: av.VideoFrame) -> np.ndarray | None:
    """The picture as a player shows it: turned by the angle that phones write beside it; None
    where it cannot be converted.
    """
    turns = round(frame.rotation / 90) % 4
    try:
        return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
    except (FFmpegError, ValueError):
        return None


def _open(path: Path) -> av.container.InputContainer:
    return av.open(str(path), "r", **ANY_TITLE)


def _frames(path: Path) -> Iterator[av.VideoFrame | None]:
    """All frames in order, None in the place of a packet that cannot be decoded."""
    begun = False
    try:
        with _open(path) as container:
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

"""Decode videos: some frames of every snippet, in one pass over the file and in bounded memory; and
the times of their frames.

FFmpeg would take a file's name for an address, and open whatever a playlist names. So it is given
`file:` and an absolute path, may use no other protocol, and opens only formats that hold a video
themselves.
"""

import contextlib
import math
import os
import stat
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.container
import av.stream
import numpy as np
from av.error import FFmpegError

from featurize.sources import USUAL_FPS, UnreadableVideo
from semvad_jax.files import BadInput, refuse_pointer

# Titles in another encoding than UTF-8 are common, and nothing is read of them. PyAV before 19
# refuses such a file unless it is told not to; PyAV 19 opens it, and has no such argument.
ANY_TITLE: dict[str, Any] = (
    {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}
)
# FFmpeg's names of the containers and raw streams that open no file but their own. Playlists,
# numbered pictures, texts and devices are not here, nor is what a later FFmpeg may bring.
FORMATS = (
    "mov mp4 m4a 3gp 3g2 mj2 matroska webm avi mpegts mpeg mpegvideo m4v asf flv live_flv kux ogg "
    "dv mxf gxf rm ivr dhav nut nsv nuv wtv lvf pva yuv4mpegpipe gif h261 h263 h264 hevc vvc evc "
    "av1 obu ivf mjpeg mjpeg_2000 vc1 vc1test dirac cavsvideo avs2 avs3 dnxhd"
).split()
OPTIONS = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
PATIENCE = 60.0  # seconds without a packet
SAME_RATE = 0.01  # how far a rate may be from the one that the frames' times give
SLOWEST, FASTEST = 0.01, 1000.0  # rates that are believed, frames a second
LATE = 3  # frames
EARLIER_SOUND = 0.1  # seconds
# containers whose index leads to a moment; elsewhere what a seek finds has other times, or none
SOUGHT = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
NEAR = 10.0  # seconds that are decoded to get to a moment; what lies further off is sought
LONGEST_GAP = 24 * 3600.0  # seconds; a longer one is a clock that began anew


class Probe(NamedTuple):
    """What decoding a whole video tells."""

    frames: int
    fps: float
    times: np.ndarray  # seconds at which each frame begins and the last one ends, [frames + 1]


def announced(path: Path) -> tuple[int, float]:
    """Frames and rate as the file's head tells them, without decoding; 0 where it does not."""
    try:
        with _open(path) as container:
            stream = moving(container)
            rate = _rate(stream)
            seconds = (container.duration or 0) / av.time_base
            return stream.frames or round(seconds * rate), rate
    except (FFmpegError, UnreadableVideo):
        return 0, 0.0


def probe(path: Path, most: int | None = None) -> Probe:
    """The frames, found by decoding `most` of them at most, and their times.

    Raises UnreadableVideo for a file without a single readable frame.
    """
    times, readable = [], 0
    for second, frame in islice(frames_of(path), most):
        times.append(second)
        readable += frame is not None
    if not readable:
        raise UnreadableVideo("not one frame of it can be read")
    return told(path, times)


def told(path: Path, times: Sequence[float]) -> Probe:
    """What the seconds of all its frames, NaN where the stream does not tell, say of a video."""
    return _probe(np.array(times), announced(path)[1])


def undecoded(path: Path) -> Probe | None:
    """The same from the packets alone, in a fraction of the time; None where they do not tell."""
    try:
        with _open(path) as container:
            stream = moving(container)
            base, origin = stream.time_base, _origin(container, stream)
            times = [
                np.nan if packet.pts is None or base is None else packet.pts * base - origin
                for packet in container.demux(stream)
                if packet.size
            ]
            times = np.sort(np.array(times, np.float64))
            rate = _rate(stream)
    except (FFmpegError, UnreadableVideo):
        return None
    if not len(times) or not np.isfinite(times).all():
        return None
    return _probe(times, rate)


def _probe(times: np.ndarray, rate: float) -> Probe:
    """Ascending times from what a stream tells of its frames, [frames], NaN where it does not;
    `rate` is the head's, 0 where it tells none. The last frame is as long as most.
    """
    usual = rate if SLOWEST <= rate <= FASTEST else USUAL_FPS
    known = np.flatnonzero(np.isfinite(times))
    if len(known) < 2 or times[known[-1]] <= times[known[0]]:
        return Probe(len(times), usual, np.arange(len(times) + 1) / usual)
    steps = np.diff(np.interp(np.arange(len(times)), known, times[known]))
    step = float(np.median(steps[steps > 0]))
    steps[(steps < 0) | (steps > LONGEST_GAP)] = step  # the stream's clock began anew
    steps[: known[0]] = steps[known[-1] :] = step
    start = float(times[known[0]]) - known[0] * step
    if start < LATE * step:  # where frames are reordered some containers begin a little late
        start = 0.0
    ends = start + np.concatenate([[0.0], np.cumsum(np.append(steps, step))])
    mean = len(times) / (ends[-1] - ends[0])
    told = SLOWEST <= rate <= FASTEST and abs(mean / rate - 1) <= SAME_RATE
    fps = rate if told else min(max(mean, SLOWEST), FASTEST)
    return Probe(len(times), fps, np.round(ends, 6))


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
    return (frames for (frames,) in together(path, edges, [count]))


def together(
    path: Path, edges: np.ndarray, counts: Sequence[int], times: list[float] | None = None
) -> Iterator[tuple[list[np.ndarray], ...]]:
    """The same for several counts at once, by decoding once.

    `times` gets the second of each frame of the whole file, NaN where the stream does not tell.
    """
    picks, number = [_Picks(edges, count) for count in counts], len(edges) - 1
    given, last = 0, None
    for position, (second, frame) in enumerate(frames_of(path)):
        if times is not None:
            times.append(second)
        if frame is None or given == number:
            continue
        pixels = None
        for pick in picks:
            while pick.wants(position):
                pixels = upright(frame) if pixels is None else pixels
                if pixels is None:  # damaged in a way that shows only now
                    break
                pick.take(pixels)
        while all(pick.ready for pick in picks):
            yield tuple(pick.ready.popleft() for pick in picks)
            given += 1
        if given == number and times is None:
            return
        last = frame
    if given == number:
        return
    done = min(pick.done for pick in picks)
    end = upright(last) if last is not None and done == number - 1 else None
    if end is None:
        raise UnreadableVideo(f"{done} of {number} snippets could be read")
    yield tuple(pick.ended_by(end) for pick in picks)


class _Picks:
    """The frames of each snippet that are picked, `count` of each."""

    def __init__(self, edges: np.ndarray, count: int) -> None:
        self._wanted = [
            [start + middle for middle in part_middles(length, count)]
            for start, length in zip(edges[:-1].tolist(), np.diff(edges).tolist(), strict=True)
        ]
        self._count, self._picked = count, list[np.ndarray]()
        self.done = 0  # snippets
        self.ready = deque[list[np.ndarray]]()  # that nobody took yet

    def wants(self, position: int) -> bool:
        """Whether the frame at this position, or one before it, is still to be picked."""
        return self.done < len(self._wanted) and (
            self._wanted[self.done][len(self._picked)] <= position
        )

    def take(self, pixels: np.ndarray) -> None:
        """Picks a frame."""
        self._picked.append(pixels)
        if len(self._picked) == self._count:
            self.ready.append(self._picked)
            self.done, self._picked = self.done + 1, []

    def ended_by(self, end: np.ndarray) -> list[np.ndarray]:
        """The last snippet's, filled up with the file's last frame."""
        if self.ready:
            return self.ready.popleft()
        return self._picked + [end] * (self._count - len(self._picked))


def pictures(path: Path, moments: Sequence[tuple[int, float]]) -> Iterator[np.ndarray | None]:
    """Single frames, uint8 [H, W, 3], each of the ascending moments being a frame's number and a
    second within it; None for one that cannot be decoded.
    """
    told = 0
    with contextlib.suppress(FFmpegError, UnreadableVideo), _open(path) as container:
        sought = container.format.name in SOUGHT
        for frame in (_sought if sought else _counted)(container, moments):
            told += 1
            yield None if frame is None else upright(frame)
    yield from [None] * (len(moments) - told)


def _counted(
    container: av.container.InputContainer, moments: Sequence[tuple[int, float]]
) -> Iterator[av.VideoFrame | None]:
    """The frames of these numbers, in one pass."""
    frames = enumerate(frame for _, frame in _decoded(container))
    position, frame = -1, None
    for number, _ in moments:
        while position < number:
            position, frame = next(frames, (sys.maxsize, None))
        yield frame if position == number else None


def _sought(
    container: av.container.InputContainer, moments: Sequence[tuple[int, float]]
) -> Iterator[av.VideoFrame | None]:
    """The frames that a player shows at these seconds, decoded from the key frame before: a small
    part of a long file.
    """
    stream = moving(container)
    frames: Iterator[tuple[float, av.VideoFrame]] = iter(())
    shown = ahead = None
    for _, second in moments:
        if ahead is None or second - ahead[0] > NEAR:
            place = math.floor((second + _origin(container, stream)) / stream.time_base)
            container.seek(place, stream=stream)
            decoded = _decoded(container)
            frames = ((t, f) for t, f in decoded if f is not None and not math.isnan(t))
            shown, ahead = None, next(frames, None)
        while ahead is not None and ahead[0] <= second:
            shown, ahead = ahead, next(frames, None)
        yield shown and shown[1]


def upright(frame: av.VideoFrame) -> np.ndarray | None:
    """The picture as a player shows it: turned by the angle that phones write beside it; None
    where it cannot be converted.
    """
    turns = round(frame.rotation / 90) % 4
    try:
        return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
    except (FFmpegError, ValueError):
        return None


def _open(path: Path) -> av.container.InputContainer:
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        raise UnreadableVideo("not a readable video (there is no such file)") from None
    if not regular:
        raise UnreadableVideo("not a readable video (a folder, a pipe or a device)")
    try:
        refuse_pointer(path)
    except BadInput as error:
        raise UnreadableVideo(f"not a readable video ({error})") from None
    address = f"file:{os.path.abspath(path)}"
    return av.open(address, "r", options=dict(OPTIONS), timeout=PATIENCE, **ANY_TITLE)


def moving(container: av.container.InputContainer) -> Any:
    """The stream of pictures that move; covers and thumbnails are streams too.

    Raises UnreadableVideo where there is none that can be decoded.
    """
    still = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    streams = [s for s in container.streams.video if not s.disposition & still]
    if not streams:
        raise UnreadableVideo("no video stream in this file")
    moving = next((s for s in streams if s.frames != 1), streams[0])
    if moving.codec_context is None:
        raise UnreadableVideo("not a readable video (unknown codec)")
    return moving


def _rate(stream: Any) -> float:
    """The head's frames a second; 0 where it tells none that can be."""
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    return rate if SLOWEST <= rate <= FASTEST else 0.0


def _origin(container: av.container.InputContainer, stream: Any) -> float:
    """The time of the stream that a player shows as 0, in seconds."""
    base = stream.time_base
    own = float(stream.start_time * base) if stream.start_time is not None and base else 0.0
    all_streams = own if container.start_time is None else container.start_time / av.time_base
    # sound begins some milliseconds earlier in many files, which no player shows
    return all_streams if own - all_streams > EARLIER_SOUND else own


def frames_of(path: Path) -> Iterator[tuple[float, av.VideoFrame | None]]:
    """All frames in order with their times in seconds, NaN where the stream does not tell; None in
    the place of a packet that cannot be decoded.
    """
    begun = False
    try:
        with _open(path) as container:
            for second, frame in _decoded(container):
                begun = begun or frame is not None
                yield second, frame
    except FFmpegError as error:
        if not begun:
            raise UnreadableVideo(f"not a readable video ({error.strerror})") from None


def _decoded(
    container: av.container.InputContainer,
) -> Iterator[tuple[float, av.VideoFrame | None]]:
    """The same from where the container stands."""
    stream = moving(container)
    base, origin = stream.time_base, _origin(container, stream)

    def second(of: Any) -> float:
        return float("nan") if of.pts is None or base is None else of.pts * base - origin

    if not stream.codec_context.is_open:
        # with more threads what becomes of a damaged stream would depend on their race
        stream.codec_context.thread_count = 1
    for packet in container.demux(stream):
        try:
            for frame in packet.decode():
                yield second(frame), frame
        except FFmpegError:
            # Keeps the frames after a damaged one in their place.
            yield second(packet), None

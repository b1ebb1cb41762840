"""A camera, a stream or a file as snippets of 16 frames, decoded as it comes, in its own thread.

FFmpeg may use the protocols of the address that was asked for and no other, and opens only formats
that hold a video themselves. What an address says of users and passwords, and whatever else could
be a secret in it, is left out wherever it is told (`shown`).

A stream that ends or falls silent is opened again, after pauses that grow. Nothing is put off: what
cannot be kept up with is skipped and counted. Of a file nothing is skipped.
"""

import errno
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from urllib.parse import urlsplit

import av
import av.container
import numpy as np
from av.error import ExitError, FFmpegError, InvalidDataError

from featurize import videos
from featurize.sources import SNIPPET_FRAMES, USUAL_FPS, UnreadableVideo
from featurize.videos import part_middles
from semvad_jax.files import BadInput

# What FFmpeg opens for an address. A redirect to another protocol is refused.
PROTOCOLS = {
    "rtsp": "rtp,tcp,udp",
    "http": "http,tcp",
    "https": "https,tls,tcp",
    "udp": "udp",
}
FORMATS = ",".join([*videos.FORMATS, "mpjpeg", "rtsp"])
CAMERA = re.compile(r"/dev/video\d+")
SILENCE = 20.0  # seconds without data after which a stream is opened again
PICTURELESS = 60.0  # seconds without a picture, though data come
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between attempts to open a stream again
QUEUE = 16  # snippets that may wait
QUEUE_BYTES = 1 << 28  # of pictures that may wait
TICK = 0.25  # seconds
LATEST = 5.0  # seconds that decoding may lag behind a stream
IDLE = 0.1  # share of the time that decoding waits for data while it keeps up
READY = 0.02  # seconds; data that take longer to come were not there before


@dataclass(frozen=True)
class Address:
    """What is watched: for FFmpeg, which may hold a password, and as people are told it."""

    given: str = field(repr=False)
    shown: str
    options: dict[str, str] = field(repr=False)
    format: str | None = None  # of a device
    live: bool = True  # False of a file, which has an end


def address(source: str) -> Address:
    """The address of an rtsp://, http://, https:// or udp:// stream, of a camera /dev/videoN or of
    a file. Raises BadInput for others.
    """
    scheme = source.partition("://")[0].lower()
    if "://" not in source:
        if CAMERA.fullmatch(source):
            options = {"format_whitelist": "video4linux2,v4l2", "protocol_whitelist": ""}
            return Address(source, source, options, "v4l2")
        return Address(source, source, {}, live=False)
    if scheme not in PROTOCOLS:
        raise BadInput(
            "--watch does not read this kind of address; give rtsp://, http://, https://, udp://, "
            "/dev/videoN or a file"
        )
    options = {"protocol_whitelist": PROTOCOLS[scheme], "format_whitelist": FORMATS}
    if scheme == "rtsp":
        options["rtsp_flags"] = "prefer_tcp"  # over UDP lost packets would be damaged pictures
    return Address(source, shown(source), options)


def shown(url: str) -> str:
    """An address without what may be secret in it: user and password, the query, a path that holds
    settings. What cannot be told apart for certain is left out too.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "…"
    before, _, host = parts.netloc.rpartition("@")
    if "@" in url.partition("://")[2].removeprefix(f"{before}@"):
        return f"{parts.scheme}://…"
    path = "/…" if set("=&;") & set(parts.path) else parts.path
    return f"{parts.scheme}://{host}{path}{'?…' if parts.query else ''}"


@dataclass
class Counts:
    """What a stream has lost so far."""

    skipped: int = 0  # snippets
    cuts: int = 0  # of the connection
    lost_seconds: float = 0.0  # without a connection
    jumps: int = 0  # of the stream's clock


@dataclass(frozen=True)
class Snippet:
    """Frames [start, end) of a stream, with their times in seconds since its first frame.

    `pictures` are those that were wanted, uint8 [H, W, 3] by their place; empty where the snippet
    is skipped.
    """

    number: int
    start: int
    end: int
    seconds: np.ndarray  # [length + 1]
    arrived: float  # of its last frame, seconds since 1970
    pictures: dict[int, np.ndarray]

    def frames(self, count: int) -> list[np.ndarray]:
        """The middles of `count` equal parts."""
        return [self.pictures[place] for place in part_middles(self.end - self.start, count)]


class Stream:
    """An address that is being read. `counts` are the frames that will be asked of a snippet
    (`Snippet.frames`); `tell` is called with a sentence where the connection is lost or found.
    """

    def __init__(self, source: Address, counts: Sequence[int], tell: Callable[[str], None]) -> None:
        self.source, self.lost = source, Counts()
        self.expected = 0  # snippets; 0 where it is not known
        self._counts, self._tell = counts, tell
        self._queue: Queue[Snippet | Exception | None] = Queue()
        self._limit = QUEUE
        self._stop = threading.Event()
        self._frames: list[tuple[float, av.VideoFrame | None]] = []
        self._number = self._frame = 0
        self._second = 0.0  # at which the next frame is expected
        self._step = 1 / USUAL_FPS  # between two frames
        # our second 0 and the last frame, by the stream's own clock
        self._origin = self._last = math.nan
        self._came = math.nan  # when the last frame did, by our clock
        self._left: float | None = None  # the same where the connection was lost since
        self._thread = threading.Thread(target=self._run, name="decoding", daemon=True)

    def __enter__(self) -> "Stream":
        if not self.source.live:
            frames, _ = videos.announced(Path(self.source.given))
            self.expected = math.ceil(frames / SNIPPET_FRAMES)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(timeout=1)  # it may wait for data, for as long as SILENCE

    def says(self) -> str:
        """What was lost, and how many snippets wait; empty where all is well."""
        lost = self.lost
        parts = ["no connection"] if self._left is not None else []
        parts += [f"{lost.skipped} skipped"] if lost.skipped else []
        cuts = f"{lost.cuts} cut{'s' * (lost.cuts != 1)} ({lost.lost_seconds:.0f} s lost)"
        parts += [cuts] if lost.cuts else []
        times = f"{lost.jumps} time{'s' * (lost.jumps != 1)}"
        parts += [f"its clock began anew {times}"] if lost.jumps else []
        parts += [f"{self.waiting} waiting"] if self.source.live and self.waiting else []
        return ", ".join(parts)

    @property
    def waiting(self) -> int:
        """Snippets that are decoded and were not taken yet."""
        return self._queue.qsize()

    @property
    def behind(self) -> bool:
        """Whether half of what may wait is waiting; never of a file."""
        return self.source.live and self.waiting >= max(1, self._limit // 2)

    def __iter__(self) -> Iterator[Snippet | None]:
        """The snippets in order until the source ends; None where none has come for a moment."""
        while True:
            try:
                item = self._queue.get(timeout=TICK)
            except Empty:
                yield None
                continue
            if isinstance(item, UnreadableVideo):
                raise BadInput(f"{self.source.shown} cannot be watched: {item}")
            if isinstance(item, Exception):
                raise item
            if item is None:
                return
            yield item

    def _run(self) -> None:
        try:
            if self.source.live:
                self._stay_connected()
            else:
                self._read_file()
            self._queue.put(None)
        except Exception as error:  # told where the snippets are taken
            self._queue.put(error)

    def _read_file(self) -> None:
        for second, frame in videos.frames_of(Path(self.source.given)):
            if self._stop.is_set():
                return
            self._add(second, frame)
        if self._frames:
            self._finish()

    def _stay_connected(self) -> None:
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            before = self._frame + len(self._frames)
            try:
                with open_(self.source) as container:
                    self._read(container)
                reason = "the stream ended"
            except (FFmpegError, UnreadableVideo) as error:
                reason = _reason(error)
            if self._stop.is_set():
                return
            if self._frame + len(self._frames) > before:
                pause, self._left = FIRST_PAUSE, self._came
                self.lost.cuts += 1
            self._frames.clear()  # no snippet spans a gap
            self._tell(f"{self.source.shown}: {reason}; opening it again in {pause:g} s")
            self._stop.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _read(self, container: av.container.InputContainer) -> None:
        """Reads a connection until it ends; raises FFmpegError and UnreadableVideo."""
        stream = videos.moving(container)
        stream.codec_context.thread_count = 1
        packets, base, backlog = container.demux(stream), stream.time_base, _Backlog()
        pictured, found = time.monotonic(), False
        while not self._stop.is_set():
            asked = time.monotonic()
            packet = next(packets, None)
            if packet is None:
                return
            now = time.monotonic()
            if now - pictured > PICTURELESS:
                raise UnreadableVideo(f"no picture in {PICTURELESS:g} s")
            own = math.nan if packet.dts is None or base is None else packet.dts * base
            if backlog.skips(float(own), now, now - asked, packet.is_keyframe):
                self._add(math.nan, None)
                continue
            try:
                frames = packet.decode()
            except FFmpegError:
                if found:  # keeps the frames after a damaged one in their place
                    self._add(math.nan, None)
                continue
            for frame in frames:
                if not found:
                    found = True
                    self._connected()
                pictured = now
                told = None if frame.pts is None or base is None else frame.pts * base
                self._add(math.nan if told is None else float(told), frame)

    def _connected(self) -> None:
        """The first picture of a connection is there: stream time went on meanwhile."""
        self._last = math.nan
        if self._left is not None:
            gone = time.monotonic() - self._left
            self.lost.lost_seconds += gone
            self._second += gone
            self._left = None
            self._tell(f"{self.source.shown}: found again")

    def _add(self, own: float, frame: av.VideoFrame | None) -> None:
        """Takes the next frame, None where it has no picture; `own` is its time by the stream's
        clock, NaN where it tells none.
        """
        second, self._came = self._second, time.monotonic()
        if not math.isnan(own):
            longest = PICTURELESS if self.source.live else videos.LONGEST_GAP
            if not -1e-6 <= own - self._last <= longest:  # the first, or the clock began anew
                self.lost.jumps += not math.isnan(self._last)
                self._origin = own - second
            elif own > self._last:
                self._step = own - self._last
            second, self._last = own - self._origin, own
        self._frames.append((second, frame))
        self._second = second + self._step
        if len(self._frames) == SNIPPET_FRAMES:
            self._finish()

    def _finish(self) -> None:
        """Puts the frames so far as a snippet where it can be taken."""
        count, number = len(self._frames), self._number
        times = [second for second, _ in self._frames]
        # the mean step, so that one late frame is not taken for a long one
        step = (times[-1] - times[0]) / (count - 1) if count > 1 else self._step
        pictures: dict[int, np.ndarray] = {}
        while not self.source.live and self.waiting >= self._limit:
            if self._stop.wait(0.005):
                return
        if self.waiting < self._limit:
            pictures = self._pictures()
        size = sum(picture.nbytes for picture in pictures.values())
        self._limit = max(1, min(QUEUE, QUEUE_BYTES // size)) if size else self._limit
        self.lost.skipped += not pictures
        start, self._frame = self._frame, self._frame + count
        seconds = np.array([*times, times[-1] + step])
        self._number += 1
        self._frames.clear()
        self._queue.put(Snippet(number, start, self._frame, seconds, time.time(), pictures))

    def _pictures(self) -> dict[int, np.ndarray]:
        """The wanted pictures by their place. For one that cannot be read the next one that can
        stands in, at the end the last; none where none can be read.
        """
        frames = [frame for _, frame in self._frames]
        order = range(len(frames))
        found: dict[int, np.ndarray] = {}
        for place in sorted({p for n in self._counts for p in part_middles(len(frames), n)}):
            for other in [*order[place:], *order[:place][::-1]]:
                if other in found:
                    found[place] = found[other]
                    break
                frame = frames[other]
                picture = None if frame is None else videos.upright(frame)
                if picture is not None:
                    found[place] = picture
                    break
        return found


class _Backlog:
    """Whether decoding lags behind a stream, so that packets have to be passed over: until none was
    there before it was asked for, and then until a picture that stands on its own.

    A stream that is itself slower than its clock makes decoding wait, and is none.
    """

    def __init__(self) -> None:
        self._least = math.inf  # by how much the stream's clock was ever behind ours
        self._since, self._waited = time.monotonic(), 0.0
        self._busy = self._skipping = self._drained = False

    def skips(self, second: float, now: float, waited: float, key: bool) -> bool:
        """Whether the packet of this second is passed over; it was waited for for so long."""
        self._waited += waited
        if now - self._since > LATEST:
            self._busy = self._waited < IDLE * (now - self._since)
            self._since, self._waited = now, 0.0
        if not math.isnan(second):
            self._least = min(self._least, now - second)
        if self._skipping:
            self._drained = self._drained or waited > READY
            if self._drained and key:
                self.__init__()
        elif self._busy and now - second - self._least > LATEST:
            self._skipping, self._drained = True, False
        return self._skipping


def check(source: Address) -> None:
    """Opens a source and closes it again. Raises BadInput where it cannot be watched."""
    try:
        if not source.live:
            next(videos.snippets(Path(source.given), np.array([0, 1]), 1))
            return
        with open_(source) as container:
            videos.moving(container)
    except (FFmpegError, UnreadableVideo) as error:
        raise BadInput(
            f"{source.shown} cannot be watched: {_reason(error)}; give an address that a player "
            "shows"
        ) from None


def open_(source: Address) -> av.container.InputContainer:
    """Opens a stream; raises FFmpegError."""
    return av.open(
        source.given,
        "r",
        format=source.format,
        options=dict(source.options),
        timeout=(SILENCE, SILENCE),
        **videos.ANY_TITLE,
    )


def _reason(error: Exception) -> str:
    """Why a source cannot be read; of FFmpeg's words only those that name no address."""
    if isinstance(error, ExitError):
        return f"no data in {SILENCE:g} s"
    if isinstance(error, InvalidDataError):
        return "what comes from there is no video"
    if isinstance(error, FFmpegError):
        if error.errno == errno.EIO:
            return "the connection broke"
        return error.strerror or "it cannot be read"
    return str(error)

"""A camera on loopback: MPEG-TS over HTTP at a pace, cut after so many frames."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import av
import numpy as np

FPS = 25


def picture(i: int, height: int, width: int) -> np.ndarray:
    """A bright bar that wanders over a slowly changing ground."""
    frame = np.full((height, width, 3), 40 + i // 4 % 160, np.uint8)
    left = 4 * i % width
    frame[:, left : left + width // 8] = (220, 60 + i % 128, 30)
    return frame


class Camera:
    """Serves /live.ts until the block's end. The k-th connection gets `frames[k]` frames, and
    connections after the last are refused; without `frames` each goes on for ever.

    `speed` is how many times faster than its own clock it is. `connections` counts what was begun,
    and `sent` the frames of each.
    """

    def __init__(
        self,
        frames: list[int] | None = None,
        speed: float = 1.0,
        size: tuple[int, int] = (240, 320),
    ) -> None:
        self.frames, self.speed, self.size = frames, speed, size
        self.connections, self.sent = 0, list[int]()
        self.cut = threading.Event()  # ends the connections that are open now
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                camera._answer(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self.port = self._server.server_port

    def __enter__(self) -> "Camera":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.cut.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        if request.path.startswith("/text"):
            text = b"no video, but words\n" * 500
            request.send_response(200)
            request.send_header("Content-Length", str(len(text)))
            request.end_headers()
            request.wfile.write(text)
            return
        with self._lock:
            number = self.connections
            known = request.path.startswith("/live.ts")
            if not known or (self.frames is not None and number >= len(self.frames)):
                self.connections += known
                request.send_error(404 if not known else 503)
                return
            self.connections += 1
            self.sent.append(0)
            self.cut.clear()
        request.send_response(200)
        request.send_header("Content-Type", "video/mp2t")
        request.end_headers()
        try:
            self._stream(
                request.wfile, number, None if self.frames is None else self.frames[number]
            )
        except (OSError, av.FFmpegError):
            pass  # who watched has gone

    def _stream(self, file: Any, number: int, frames: int | None) -> None:
        """Its clock is that of the camera, which does not begin anew with a connection."""
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(FPS)}
        with av.open(file, "w", format="mpegts") as container:
            stream = container.add_stream("libx264", rate=FPS, options=options)
            stream.height, stream.width = self.size
            stream.pix_fmt = "yuv420p"
            first = int((time.monotonic() - self._begun) * FPS * self.speed)
            i = 0
            while (frames is None or i < frames) and not self.cut.is_set():
                due = self._begun + (first + i) / FPS / self.speed
                time.sleep(max(0.0, due - time.monotonic()))
                frame = av.VideoFrame.from_ndarray(picture(first + i, *self.size))
                frame.pts = first + i
                container.mux(stream.encode(frame))
                i += 1
                self.sent[number] = i
            container.mux(stream.encode())

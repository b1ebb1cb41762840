"""A camera on loopback: MPEG-TS at a pace over HTTP, cut after so many frames, or over UDP."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import av
import numpy as np

FPS = 25
SILENT = 25.0  # seconds of a cut over UDP: longer than a watch waits for data


def picture(i: int, height: int, width: int) -> np.ndarray:
    """A bright bar that wanders over a slowly changing ground."""
    frame = np.full((height, width, 3), 40 + i // 4 % 160, np.uint8)
    left = 4 * i % width
    frame[:, left : left + width // 8] = (220, 60 + i % 128, 30)
    return frame


class Paced:
    """Frames by a clock that runs from the beginning on, `speed` times faster than it says. `sent`
    are the frames of each connection, and `cut` ends those that are open now.
    """

    def __init__(self, speed: float, size: tuple[int, int]) -> None:
        self.speed, self.size = speed, size
        self.sent = list[int]()
        self.cut = threading.Event()
        self._begun = time.monotonic()

    def _stream(self, to: Any, number: int, frames: int | None = None) -> None:
        """Writes connection `number` to a file or an address; its clock does not begin anew."""
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(FPS)}
        with av.open(to, "w", format="mpegts") as container:
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


class Camera(Paced):
    """Serves /live.ts until the block's end. The k-th connection gets `frames[k]` frames, and
    connections after the last are refused; without `frames` each goes on for ever. `connections`
    counts what was begun.
    """

    def __init__(
        self,
        frames: list[int] | None = None,
        speed: float = 1.0,
        size: tuple[int, int] = (240, 320),
    ) -> None:
        super().__init__(speed, size)
        self.frames, self.connections = frames, 0
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                camera._answer(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._lock = threading.Lock()
        self.port = self._server.server_port
        self.address = f"http://127.0.0.1:{self.port}/live.ts"

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


class Broadcast(Paced):
    """Sends to a free port by UDP until the block's end, whoever listens; a `cut` is a silence."""

    def __init__(self) -> None:
        super().__init__(1.0, (240, 320))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"udp://127.0.0.1:{free.getsockname()[1]}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> "Broadcast":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.cut.set()
        self._thread.join()

    def _send(self) -> None:
        while not self._over.is_set():
            self.sent.append(0)
            self._stream(f"{self.address}?pkt_size=1316", len(self.sent) - 1)
            self._over.wait(SILENT)
            self.cut.clear()

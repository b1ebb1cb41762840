"""The page of a watch while it goes on: the last picture, the latest scores, captions and events.

It is served by the watch itself, reads only, and asks nothing of any other place. On the machine
itself it is open to whoever is logged in there; at another address only to who has the token that
is made for this watch.
"""

import contextlib
import io
import ipaddress
import secrets
import socket
import threading
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

import numpy as np

from semvad_jax.detection.events import Origin
from semvad_jax.detection.live_events import CLOSED, Scored
from semvad_jax.files import BadInput, json_text, require
from semvad_jax.templates import script, template

ROWS = 600  # snippets that are drawn: six minutes at 25 frames a second
EVENTS = 50  # that are listed
WIDTH = 640  # of the picture, at most
TOKEN = "token"  # in the address, and the cookie's name from then on
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class LivePage:
    """What the page shows, as the watch tells it and the server reads it."""

    def __init__(self, source: str, origin: Origin) -> None:
        self._lock = threading.Lock()
        self._rows: deque[dict[str, Any]] = deque(maxlen=ROWS)
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS)
        self._text, self._picture = "", None
        self.html = template("live.html").render(
            source=source,
            origin=origin,
            rows=ROWS,
            script=script("live.js"),
        )

    def show(self, row: Scored, picture: np.ndarray | None) -> None:
        """The next snippet."""
        shown = {
            "snippet": row.snippet,
            "second": row.seconds[0],
            "end": row.seconds[1],
            "wall_clock": row.wall_clock,
            "mean": row.mean,
            "sd": row.sd,
            "class": row.named,
            "caption": row.caption,
            "left_out": row.left_out,
        }
        with self._lock:
            self._rows.append(shown)
            self._picture = self._picture if picture is None else picture

    def event(self, record: dict[str, Any]) -> None:
        """A record of an event, in place of the last one of the same event."""
        with self._lock:
            if self._events and self._events[-1]["event"] == record["event"]:
                self._events.pop()
            self._events.append({**record, "over": record["state"] == CLOSED})

    def says(self, text: str) -> None:
        """How it goes."""
        self._text = text

    def state(self) -> bytes:
        """All that changes, as JSON."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        with self._lock:
            rows, events = list(self._rows), list(self._events)
        return json_text({"now": now, "says": self._text, "rows": rows, "events": events})

    def jpeg(self) -> bytes | None:
        """The last picture, no wider than WIDTH; None before the first."""
        from PIL import Image

        with self._lock:
            picture = self._picture
        if picture is None:
            return None
        image, file = Image.fromarray(picture), io.BytesIO()
        image.thumbnail((WIDTH, WIDTH))
        image.save(file, "JPEG", quality=80)
        return file.getvalue()


@contextlib.contextmanager
def served(host: str, port: int, source: str, origin: Origin) -> Iterator[LivePage]:
    """Serves a page until the block's end, and prints its address.

    Raises BadInput where the port is taken, and where the server is not installed.
    """
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise BadInput('--port needs a server; run pip install -e ".[watch]"') from None
    page = LivePage(source, origin)
    here = _is_here(host)
    token = None if here else secrets.token_urlsafe(16)
    listening = _listening(host, port)
    settings = uvicorn.Config(
        application(page, host if here else None, token),
        log_config=None,  # the program's logging is not its own
        access_log=False,
        lifespan="off",
        server_header=False,
        limit_concurrency=64,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(settings)
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listening]}, name="page", daemon=True
    )
    thread.start()
    name = f"[{host}]" if ":" in host else host
    address = f"http://{name}:{listening.getsockname()[1]}/"
    print(f"the live page is at {address}{f'?{TOKEN}={token}' if token else ''}", flush=True)
    try:
        yield page
    finally:
        server.should_exit = True
        thread.join(timeout=3)


def _is_here(host: str) -> bool:
    """Whether only this machine can reach the address."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    require(0 <= port < 1 << 16, f"--port {port} is no port; give one from 1024 to 65535")
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(place[:2], family=family)
    except OSError as error:
        raise BadInput(
            f"nothing can be served at {host}, port {port} ({error.strerror}); give another --port "
            "or --host"
        ) from None


def application(page: LivePage, host: str | None, token: str | None) -> Any:
    """The server's side: the page, its state and its picture, all by GET.

    With a `host` only requests that name it, or localhost, are answered: a page of elsewhere that
    has a name of its own for this machine gets nothing. With a `token` only those that have it are.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import Response
    from starlette.routing import Route

    def html(_: Any) -> Response:
        return Response(page.html, media_type="text/html", headers=HEADERS)

    def state(_: Any) -> Response:
        return Response(page.state(), media_type="application/json", headers=HEADERS)

    def picture(_: Any) -> Response:
        jpeg = page.jpeg()
        if jpeg is None:
            return Response(status_code=404, headers=HEADERS)
        return Response(jpeg, media_type="image/jpeg", headers=HEADERS)

    routes = [
        Route("/", html, methods=["GET"]),
        Route("/state.json", state, methods=["GET"]),
        Route("/picture.jpg", picture, methods=["GET"]),
    ]
    guards = []
    if host is not None:
        names = [f"[{host}]" if ":" in host else host, "localhost"]
        guards.append(Middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False))
    if token is not None:
        guards.append(Middleware(_Guard, token=token))
    return Starlette(routes=routes, middleware=guards)


class _Guard:
    """Lets in who has the token: in the address once, and from then on in a cookie."""

    def __init__(self, app: Any, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.requests import Request
        from starlette.responses import PlainTextResponse, RedirectResponse

        request = Request(scope)
        asked = parse_qs(request.url.query).get(TOKEN, [None])[0]
        given = asked or request.cookies.get(TOKEN)
        if given is None:
            answer = PlainTextResponse("the token is missing", 401, HEADERS)
        elif not secrets.compare_digest(given.encode(), self._token.encode()):
            answer = PlainTextResponse("this is not the token", 403, HEADERS)
        elif asked:  # out of the address, which may be seen
            answer = RedirectResponse(request.url.path, 303, HEADERS)
            answer.set_cookie(TOKEN, self._token, httponly=True, samesite="strict")
        else:
            answer = self._app
        await answer(scope, receive, send)

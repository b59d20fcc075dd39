"""How does a browser get at a running sweep? Four addresses on loopback, and one of them takes a token.

Whoever reaches the port may look; only whoever was given the token may stop the run. Requests that name
another host are refused, so that no web page elsewhere can ask through the browser.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from dashboards.live import live_page
from service.errors import ServiceError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from service.watching import Watched

LOOPBACK = "127.0.0.1"
_PRIVATE = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "SAMEORIGIN",
}


def application(watched: Watched, token: str) -> Starlette:
    """`/` the page, `/state` how far everything is, `/report` the report, `POST /stop` behind the token."""

    async def page(_: Request) -> Response:
        return HTMLResponse(live_page(watched.name), headers=_PRIVATE)

    async def state(_: Request) -> Response:
        return JSONResponse(await run_in_threadpool(watched.state), headers=_PRIVATE)

    async def report(_: Request) -> Response:
        return HTMLResponse(await run_in_threadpool(watched.page), headers=_PRIVATE)

    async def stop(request: Request) -> Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not secrets.compare_digest(given.encode(), token.encode()):
            told = "stopping takes the token of the address that `diffsweep watch` printed"
            return JSONResponse({"error": told}, status_code=403, headers=_PRIVATE)
        if not await run_in_threadpool(watched.stop):
            told = "nobody is running this experiment now"
            return JSONResponse({"error": told}, status_code=409, headers=_PRIVATE)
        return JSONResponse({"asked": True}, status_code=202, headers=_PRIVATE)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/state", state),
            Route("/report", report),
            Route("/stop", stop, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])],
    )


def listening(port: int) -> socket.socket:
    """A socket on loopback; with port 0 on any free one. ServiceError where the port is taken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen()  # whoever opens the address at once is answered when all is loaded
    except OSError as error:
        listener.close()
        raise ServiceError(
            f"port {port} on {LOOPBACK} cannot be used: {error.strerror}",
            "choose another with --port, or leave it out for any free one",
        ) from None
    return listener


def serve(watched: Watched, token: str, listener: socket.socket) -> None:
    """Answer until Ctrl-C."""
    config = uvicorn.Config(
        application(watched, token), log_level="warning", access_log=False, lifespan="off",
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    with contextlib.suppress(KeyboardInterrupt):  # it raises again what ended it
        uvicorn.Server(config).run([listener])

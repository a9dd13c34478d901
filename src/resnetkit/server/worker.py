"""A process that serves: opens the models, and runs the application on a bound socket."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnetkit.server.access import Access, log_to_stderr
from resnetkit.server.application import create_app
from resnetkit.server.connections import BACKLOG, ConnectionLimits, connections_allowed
from resnetkit.server.graceful_server import GracefulServer
from resnetkit.server.model_reloading import Reloading
from resnetkit.server.model_source import ModelSource, ServingOptions
from resnetkit.server.protocol import limited_protocol
from resnetkit.server.served_model import Limits
from resnetkit.server.url_fetching import UrlFetcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a worker has to know; see ``serve``. ``where`` is the server's address."""

    where: str
    sources: Sequence[ModelSource]
    options: ServingOptions
    limits: Limits
    topk: int
    root_path: str
    grpc_address: str | None
    watch: float | None
    allow_url: bool
    access: Access
    grace: float


def run(
    settings: Settings,
    listening: socket.socket,
    *,
    on_start: Callable[[str], None],
    say: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT. ``on_start`` is called with a line when the models are open,
    ``say`` with later ones. Raises ``InputError`` for a model that cannot be served."""
    sources, options = settings.sources, settings.options
    background = []
    if settings.watch is not None:
        background.append(Reloading(sources, options.open, settings.watch, say).run)
    served = [options.open(source) for source in sources]
    app = create_app(
        served,
        settings.limits,
        topk=settings.topk,
        root_path=settings.root_path,
        grpc_address=settings.grpc_address,
        access=settings.access,
        background=background,
        fetcher=UrlFetcher() if settings.allow_url else None,
    )
    # Of malformed forms: clients could fill the log with them.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    connections = ConnectionLimits(max_connections=connections_allowed())
    config = uvicorn.Config(
        _announced(app, lambda: on_start(line)),
        http=limited_protocol(connections),
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=connections.keep_alive,
    )
    if settings.access.log:
        log_to_stderr()
    server = GracefulServer(config, app.state.traffic, grace=settings.grace, on_stop=say)
    line = f"{settings.where} serves " + "; ".join(
        f"{one.label} ({one.network}), {one.engine.name} {one.engine.precision}" for one in served
    )
    if settings.grpc_address:
        line += f", gRPC on {settings.grpc_address}"
    server.run([listening])


def _announced(app: ASGIApp, tell: Callable[[], None]) -> ASGIApp:
    """The application, which calls ``tell`` when it has started, with gRPC."""

    async def announcing(scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                tell()

        await app(scope, receive, watched if scope["type"] == "lifespan" else send)

    return announcing


@contextmanager
def orderly_end() -> Iterator[None]:
    """Leave by ``SystemExit`` at SIGTERM, which uvicorn raises again once it has stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""A uvicorn server in a thread, with the limits of the package, and clients with bare sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn

from resnetkit.server.connections import BACKLOG, ConnectionLimits


@contextmanager
def running(
    app: object,
    protocol: Callable[[ConnectionLimits], type],
    limits: ConnectionLimits,
    lifespan: str = "off",
) -> Iterator[tuple[str, int]]:
    """Its address."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    config = uvicorn.Config(
        app, http=protocol(limits), ws="none", log_level="warning", lifespan=lifespan,
        timeout_keep_alive=limits.keep_alive, timeout_graceful_shutdown=5, backlog=BACKLOG,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield listening.getsockname()
    finally:
        server.should_exit = True
        thread.join()


async def echo(scope: dict, receive: Callable, send: Callable) -> None:
    """Answers the number of bytes of the body; /headers the names of the headers; /early at once,
    /slow after a second."""
    size, more = 0, scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    body = b"%d" % size
    if scope["path"] == "/headers":
        body = b" ".join(name for name, _ in scope["headers"])
    if scope["path"] == "/slow":
        await asyncio.sleep(1)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def connect(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=20)


def answer(client: socket.socket) -> str:
    """All that the server says until it closes the connection."""
    found = b""
    while piece := client.recv(65536):
        found += piece
    return found.decode()


def ask(address: tuple[str, int], request: bytes) -> str:
    """The answer to a request that ends with the connection."""
    with connect(address) as client:
        with suppress(BrokenPipeError, ConnectionResetError):  # The answer may be there already.
            client.sendall(request)
        return answer(client)

"""Middleware that limits the size of request bodies."""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class _RefusedError(Exception):
    """A request is rejected; ``response`` says why."""

    def __init__(self, response: PlainTextResponse) -> None:
        self.response = response


class BodyLimit:
    """ASGI middleware: answers 413 to a body above ``max_body_bytes``, and 503 to one that would
    raise the total of all requests in progress above ``max_total_body_bytes``.

    A request is rejected as soon as it is too large, by its Content-Length or while it is received.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, max_total_body_bytes: int) -> None:
        self._app, self._max_body_bytes, self._total_bytes = app, max_body_bytes, 0
        self._max_total_body_bytes = most = max(max_body_bytes, max_total_body_bytes)
        self._too_large = PlainTextResponse(
            f"the body is larger than the limit of {max_body_bytes:,} bytes; send fewer or smaller "
            "images",
            status_code=413,
            headers={"connection": "close"},
        )
        self._full = PlainTextResponse(
            f"{most:,} bytes of other requests are already waiting; try again",
            status_code=503,
            headers={"connection": "close", "retry-after": "1"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        received, started = 0, False

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            size = len(message.get("body", b""))
            received += size
            self._total_bytes += size
            if received > self._max_body_bytes:
                raise _RefusedError(self._too_large)
            if self._total_bytes > self._max_total_body_bytes:
                raise _RefusedError(self._full)
            return message

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            if length.isdigit() and int(length) > self._max_body_bytes:
                raise _RefusedError(self._too_large)
            await self._app(scope, limited_receive, watched_send)
        except _RefusedError as error:
            if not started:
                await error.response(scope, receive, send)
        finally:
            self._total_bytes -= received

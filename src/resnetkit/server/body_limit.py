"""Middleware that limits the size of request bodies, and the bytes that all requests hold."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnetkit.server.refusal import Refusal


class _RefusedError(Exception):
    """A request is rejected; ``response`` says why."""

    def __init__(self, response: Refusal) -> None:
        self.response = response


class HeldBytes:
    """The bytes that a request holds in memory, counted until it ends.

    It is ``scope["held_bytes"]``, for what a request decodes or fetches.
    """

    def __init__(self, limit: BodyLimit) -> None:
        self._limit, self.size = limit, 0

    def add(self, size: int) -> None:
        """Count more bytes; the request ends with 503 if all requests together hold too many.

        A request that is alone is never rejected, so that trying again helps.
        """
        self.size += size
        self._limit.total += size
        if self._limit.max_total_body_bytes < self._limit.total != self.size:
            raise _RefusedError(self._limit.full)

    def release(self) -> None:
        """The request has ended."""
        self._limit.total -= self.size


class BodyLimit:
    """ASGI middleware: answers 413 to a body above ``max_body_bytes``, and 503 to one that would
    raise the total of all requests in progress above ``max_total_body_bytes``.

    A request is rejected as soon as it is too large, by its Content-Length or while it is received.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, max_total_body_bytes: int) -> None:
        self._app, self._max_body_bytes, self.total = app, max_body_bytes, 0
        self.max_total_body_bytes = most = max(max_body_bytes, max_total_body_bytes)
        self._too_large = Refusal(
            f"the body is larger than the limit of {max_body_bytes:,} bytes; send fewer or smaller "
            "images",
            status_code=413,
            headers={"connection": "close"},
        )
        self.full = Refusal(
            f"{most:,} bytes of other requests are already waiting; try again",
            status_code=503,
            headers={"connection": "close", "retry-after": "1"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        scope["held_bytes"] = held = HeldBytes(self)
        received, started = 0, False

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            size = len(message.get("body", b""))
            received += size
            if received > self._max_body_bytes:
                raise _RefusedError(self._too_large)
            held.add(size)
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
            held.release()

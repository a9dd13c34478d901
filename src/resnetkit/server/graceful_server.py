"""A uvicorn server that ends in order: not ready, what was taken is answered, then the end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from resnetkit.server.traffic import Traffic

#: Seconds of the grace period for the end itself.
_LAST = 0.5


class GracefulServer(uvicorn.Server):
    """Serves ``config.app`` until SIGTERM or SIGINT, then ends within ``grace`` seconds.

    While requests are in progress, new ones are answered 503. ``on_stop`` is called with one line.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        traffic: Traffic,
        *,
        grace: float,
        on_stop: Callable[[str], None],
    ) -> None:
        super().__init__(config)
        self._traffic, self._grace, self._on_stop = traffic, grace, on_stop
        self._began: float | None = None
        self._end: threading.Timer | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called for a signal."""
        self._begin(128 + sig)
        super().handle_exit(sig, frame)

    def _begin(self, code: int) -> None:
        if self._began is None:
            self._began = time.monotonic()
            self._traffic.stopping = True
            # Threads that compute cannot be ended otherwise.
            self._end = threading.Timer(self._grace, os._exit, [code])
            self._end.daemon = True
            self._end.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was taken, then close everything."""
        self._begin(128 + signal.SIGTERM)
        while self._traffic.in_progress and self._left() > 0 and not self.force_exit:
            await asyncio.sleep(0.02)
        cut = self._traffic.in_progress
        if cut or self._left() <= 0:
            for connection in list(self.server_state.connections):
                connection.transport.abort()
        # uvicorn waits for connections that are being closed.
        self.config.timeout_graceful_shutdown = max(self._left(), 0.2)  # type: ignore[assignment]
        self._report(cut)
        await super().shutdown(sockets)
        if self._end is not None:
            self._end.cancel()

    def _left(self) -> float:
        began = self._began if self._began is not None else time.monotonic()
        return began + self._grace - _LAST - time.monotonic()

    def _report(self, cut: int) -> None:
        answered = self._traffic.answered_while_stopping
        unanswered = f", {cut} not answered in {self._grace:g} s" if cut else ""
        requests = "request" if answered == 1 else "requests"
        self._on_stop(f"stopping: {answered} {requests} answered since the signal{unanswered}")

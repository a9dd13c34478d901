"""The requests in progress, and whether new ones are taken."""

from __future__ import annotations

import asyncio
from functools import partial

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnetkit.server.refusal import Refusal

#: Whether the server is alive and ready; answered to anybody, as long as the process runs.
PROBES = (
    "/health",
    "/ready",
    "/v2/health/live",
    "/v2/health/ready",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
    "/grpc.health.v1.Health/Check",
)


class Traffic:
    """The requests in progress, and whether new ones are wanted."""

    def __init__(self) -> None:
        self.in_progress = 0
        self.answered_while_stopping = 0
        self.stopping = False
        self.middleware = partial(_Counted, self)

    def ready(self) -> JSONResponse:
        """Whether requests are taken: 200, or 503 when the server is stopping."""
        if self.stopping:
            return JSONResponse({"ready": False, "reason": "stopping"}, 503)
        return JSONResponse({"ready": True})


class _Counted:
    """ASGI middleware: counts requests in ``traffic``, and answers 503 when it is stopping."""

    def __init__(self, traffic: Traffic, app: ASGIApp) -> None:
        self._traffic, self._app = traffic, app
        self._stopping = Refusal(
            "the server is stopping",
            status_code=503,
            headers={"connection": "close", "retry-after": "5"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        traffic = self._traffic
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        if traffic.stopping:
            await self._stopping(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                traffic.answered_while_stopping += traffic.stopping

        traffic.in_progress += 1
        try:
            await self._app(scope, receive, counted)
        except asyncio.CancelledError:  # The time is over; the line at the end says how many.
            if not traffic.stopping:
                raise
        finally:
            traffic.in_progress -= 1

"""One line that says why a request is not answered."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send


class Refusal:
    """An ASGI application that answers every request with ``reason``.

    It is the ``detail`` of a JSON object, and under ``/v2`` the ``error``, as the Open Inference
    Protocol has it.
    """

    def __init__(
        self, reason: str, status_code: int, headers: Mapping[str, str] | None = None
    ) -> None:
        self.reason, self.status_code, self.headers = reason, status_code, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = "error" if scope.get("path", "").startswith("/v2") else "detail"
        response = JSONResponse({key: self.reason}, self.status_code, self.headers)
        await response(scope, receive, send)

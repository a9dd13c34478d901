"""Who may ask for what, how often, and what is logged of it."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnetkit.errors import InputError
from resnetkit.server.api_keys import RequireKey
from resnetkit.server.refusal import Refusal
from resnetkit.server.responses import Ready
from resnetkit.server.security_headers import SecurityHeaders
from resnetkit.server.traffic import PROBES, Traffic

_ORIGIN = re.compile(
    r"(http(?!.*:80$)|https(?!.*:443$))://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?",
    re.ASCII,
)
access_logger = logging.getLogger("resnetkit.access")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may use an application.

    With ``api_keys`` (key by name), a request needs one of them. A client (a key, or without keys
    an address) has at most ``max_requests_per_client`` requests at a time. With ``log``, each
    request is one line of the logger ``resnetkit.access``. Pages of ``cors_origins``
    (``https://host``, or ``*`` for all) may use the application from a browser.

    Raises ``ValueError`` for an origin that is none.
    """

    api_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    max_requests_per_client: int | None = None
    log: bool = False
    cors_origins: Sequence[str] = ()

    def __post_init__(self) -> None:
        for origin in self.cors_origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise InputError(
                    f"the CORS origin {origin!r} is none; give * or e.g. https://example.org:8443: "
                    "no path, small letters, no usual port",
                    field="cors_origins",
                )


def protect_inside(app: FastAPI, access: Access) -> None:
    """Add the middlewares next to the routes: those whose refusals are counted."""
    if access.max_requests_per_client is not None:
        app.add_middleware(ClientLimit, most=access.max_requests_per_client)
    if access.api_keys:
        app.add_middleware(RequireKey, keys=access.api_keys)
    app.add_middleware(RequestChecks)


def protect_outside(app: FastAPI, access: Access) -> None:
    """Add the outermost middlewares, and the route ``/ready``."""
    traffic = Traffic()
    app.state.traffic = traffic
    app.head("/ready", include_in_schema=False)(traffic.ready)
    app.get("/ready", response_model=Ready, responses={503: {"model": Ready}})(traffic.ready)
    if access.log:
        app.add_middleware(AccessLog)
    app.add_middleware(traffic.middleware)
    app.add_middleware(SecurityHeaders)


class RequestChecks:
    """ASGI middleware: refuses bodies that cannot be read, and ends requests of lost clients.

    A compressed body is answered 415, a body of two lengths 400. A client that disconnects is
    counted with status 499, and nothing is logged.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await (_refusal(Headers(scope=scope)) or self._app)(scope, receive, send)
        except ClientDisconnect:
            await Response(status_code=499)(scope, receive, send)


def _refusal(headers: Headers) -> Refusal | None:
    coding = headers.get("content-encoding", "identity")
    if coding.strip().lower() not in ("", "identity"):
        return Refusal(
            f"the body has Content-Encoding {coding[:40]!a}; send it without one (identity)",
            status_code=415,
            headers={"accept-encoding": "identity"},
        )
    transfer = headers.getlist("transfer-encoding")
    if transfer and "content-length" in headers:
        return Refusal(
            "the request has both Content-Length and Transfer-Encoding; send one of them",
            status_code=400,
            headers={"connection": "close"},
        )
    return None


class ClientLimit:
    """ASGI middleware: answers 429 to a client with ``most`` requests in progress.

    A client is the name of its key, or an address.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most
        self._requests: Counter[str] = Counter()
        self._too_many = Refusal(
            f"{most} of your requests are in progress, the most for one client; try again",
            status_code=429,
            headers={"retry-after": "1"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        client = _client(scope)
        if self._requests[client] >= self._most:
            await self._too_many(scope, receive, send)
            return
        self._requests[client] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._requests[client] -= 1
            if not self._requests[client]:
                del self._requests[client]


class AccessLog:
    """ASGI middleware: one line per request, without its query and its key."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            address = (scope.get("client") or ("-",))[0]
            path = ascii(scope.get("raw_path", scope["path"].encode()).decode("latin-1"))[1:-1]
            access_logger.info(
                '%s %s "%s %s" %d %.1f ms',
                address,
                scope.get("client_name", "-"),
                scope["method"],
                path,
                status,
                1e3 * (time.perf_counter() - start),
            )


def log_to_stderr() -> None:
    """Print the lines of the access log."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    access_logger.addHandler(handler)
    access_logger.setLevel(logging.INFO)
    access_logger.propagate = False


def _client(scope: Scope) -> str:
    name = scope.get("client_name")
    return f"key {name}" if name else (scope.get("client") or ("unknown",))[0]

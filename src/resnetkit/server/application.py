"""The HTTP application: images in, ranked classes out.

| request | answer |
|---|---|
| ``POST /predict?topk=5`` | the body is one image, or a form with any number of files |
| ``GET /model`` | the network, its classes, its preprocessing and the engine |
| ``GET /health`` | 200 while the process lives |
| ``GET /metrics`` | counters for Prometheus |
| ``GET /`` | a page to try it |

A body above the limit is refused with 413 before it is held, an image that cannot be read with 422
and the reason, and a request that would have to wait too long, or finds too many bytes of others in
memory, with 503.
"""

from __future__ import annotations

import asyncio
import html
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import prometheus_client
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from starlette.datastructures import UploadFile
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnetkit.data.decoding.decode import UnreadableImageError, pixels_of, whole
from resnetkit.files import utf8
from resnetkit.inference.engines.engine import Engine
from resnetkit.inference.prediction import NOT_FINITE, finite, ranked
from resnetkit.preprocess import Preprocess
from resnetkit.server.dynamic_batching import Batcher, BusyError, Row


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Served:
    """What is served: an engine, and all that stands around it."""

    name: str
    engine: Engine
    preprocess: Preprocess
    classes: tuple[str, ...]
    network: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "model": self.name,
            "network": self.network,
            "classes": [utf8(name) for name in self.classes],
            "preprocess": self.preprocess.to_dict(),
            "engine": self.engine.to_dict(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is taken at a time.

    ``batch`` images are computed at once, of those that come within ``patience`` seconds;
    ``waiting`` may wait, from when they were received; a body has at most ``body`` bytes, all of
    them together ``held``, and a form ``files`` files; ``readers`` threads decode.
    """

    batch: int = 8
    patience: float = 0.0
    waiting: int = 256
    body: int = 32 << 20
    held: int = 256 << 20
    files: int = 64
    readers: int = 2


class _TooLargeError(Exception):
    """More bytes came than are taken."""


class _FullError(Exception):
    """More bytes of all requests came than are held."""


class _Bounded:
    """Refuses a body of more than ``most`` bytes as soon as it is known to be one, and any that
    would make it more than ``held`` bytes of all requests."""

    def __init__(self, app: ASGIApp, most: int, held: int) -> None:
        self._app, self._most, self._all = app, most, max(most, held)
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = dict(scope["headers"]).get(b"content-length", b"0")
        refused = PlainTextResponse(
            f"the body is larger than the {self._most:,} bytes that are taken; send fewer or "
            "smaller images",
            status_code=413,
            headers={"connection": "close"},
        )
        if told.isdigit() and int(told) > self._most:
            await refused(scope, receive, send)
            return
        taken, started = 0, False

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            size = len(message.get("body", b""))
            taken += size
            self._held += size
            if taken > self._most:
                raise _TooLargeError
            if self._held > self._all:
                raise _FullError
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, bounded, watched)
        except _TooLargeError:
            if not started:
                await refused(scope, receive, send)
        except _FullError:
            if not started:
                await PlainTextResponse(
                    f"{self._all:,} bytes of other requests are waiting already; try again",
                    status_code=503,
                    headers={"connection": "close", "retry-after": "1"},
                )(scope, receive, send)
        finally:
            self._held -= taken


class _Counted:
    """What Prometheus is told, in a registry of its own."""

    def __init__(self, batcher: Callable[[], Batcher]) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self.requests = prometheus_client.Counter(
            "resnetkit_requests", "Requests by path and status", ["path", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.images = prometheus_client.Counter(
            "resnetkit_images", "Images by outcome", ["outcome"], registry=self.registry
        )
        self.seconds = prometheus_client.Histogram(
            "resnetkit_predict_seconds", "Time of a request to /predict", registry=self.registry
        )
        waiting = prometheus_client.Gauge(
            "resnetkit_waiting_images", "Images that wait for a batch", registry=self.registry
        )
        waiting.set_function(lambda: batcher().waiting)
        batches = prometheus_client.Gauge(
            "resnetkit_batches", "Batches computed", registry=self.registry
        )
        batches.set_function(lambda: batcher().batches)


def create_app(served: Served, limits: Limits | None = None, *, topk: int = 5) -> FastAPI:
    """The application; ``topk`` classes are answered where a request asks for no other number."""
    given = limits or Limits()
    page = (files("resnetkit.server") / "page.html").read_text(encoding="utf-8")
    batcher: Batcher | None = None
    readers: ThreadPoolExecutor | None = None
    # How many images are taken, of all requests, and may be: those that wait, and a batch.
    taken, room = 0, given.waiting + given.batch
    # An engine that cuts images is given whole ones, one at a time; few are held decoded.
    cuts = served.engine.options.cuts
    read, most = (whole, 1) if cuts else (pixels_of, given.batch)
    decoded: AbstractAsyncContextManager[object] = nullcontext()

    @asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        nonlocal batcher, readers, decoded
        if cuts:
            decoded = asyncio.Semaphore(2 * given.readers)
        with (
            Batcher(served.engine, most=most, patience=given.patience, waiting=room) as batcher,
            ThreadPoolExecutor(given.readers, "readers") as readers,
        ):
            yield

    app = FastAPI(
        title="resnetkit",
        description=f"{served.network}: images in, ranked classes out.",
        lifespan=living,
    )

    def _batcher() -> Batcher:
        assert batcher is not None
        return batcher

    counted = _Counted(_batcher)
    app.add_middleware(_Bounded, most=given.body, held=given.held)

    @app.middleware("http")
    async def count(
        request: Request, following: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await following(request)
        route = request.scope.get("route")
        path = getattr(route, "path", "other")
        counted.requests.labels(path, str(response.status_code)).inc()
        return response

    async def answered(body: bytes, number: int) -> dict[str, Any]:
        """The classes of one image, or why it cannot be read."""
        loop = asyncio.get_running_loop()
        try:
            async with decoded:
                pixels = await loop.run_in_executor(readers, read, body, served.preprocess)
                row: Row = await asyncio.wrap_future(_batcher().submit(pixels))
        except UnreadableImageError as error:
            counted.images.labels("unreadable").inc()
            return {"problem": error.reason}
        if not finite(row):
            counted.images.labels("not finite").inc()
            return {"problem": NOT_FINITE}
        counted.images.labels("answered").inc()
        scores = ranked(row, served.classes, number)
        return {
            "predictions": [{"label": utf8(g.label), "probability": g.probability} for g in scores],
        }

    @app.post("/predict")
    async def predict(
        request: Request, topk: int = Query(default=topk, ge=1, le=max(1, len(served.classes)))
    ) -> dict[str, Any]:
        """The ``topk`` classes of each image, best first."""
        nonlocal taken
        start = time.perf_counter()
        named = await _images(request, given.files)
        # Those that are still to be decoded wait as well.
        if taken + len(named) > room:
            raise _busy(f"{taken} images are waiting already")
        taken += len(named)
        try:
            found = await asyncio.gather(*(answered(body, topk) for _, body in named))
        except BusyError as error:
            raise _busy(str(error)) from None
        finally:
            taken -= len(named)
        counted.seconds.observe(time.perf_counter() - start)
        if all("problem" in one for one in found):
            reasons = "; ".join(
                f"{name}: {one['problem']}" for (name, _), one in zip(named, found, strict=True)
            )
            raise HTTPException(422, f"no image can be read: {reasons}")
        return {
            "model": served.name,
            "images": [{"image": name, **one} for (name, _), one in zip(named, found, strict=True)],
        }

    @app.get("/model")
    def model() -> dict[str, Any]:
        """What is served."""
        return served.to_dict()

    @app.get("/health")
    def health() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok"}

    @app.get("/metrics")
    def metrics() -> Response:
        """Counters, as Prometheus reads them."""
        text = prometheus_client.generate_latest(counted.registry)
        return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    def try_it() -> HTMLResponse:
        return HTMLResponse(page.replace("{{network}}", html.escape(served.network)))

    return app


def _busy(reason: str) -> HTTPException:
    return HTTPException(503, f"{reason}; try again", headers={"retry-after": "1"})


async def _images(request: Request, most: int) -> Sequence[tuple[str, bytes]]:
    """The images of a request with their names; raises ``HTTPException`` where there are none."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        body = await request.body()
        if not body:
            raise HTTPException(422, "the body is empty; send an image, or a form with files")
        return [("body", body)]
    async with request.form(max_files=most, max_fields=most) as form:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise HTTPException(422, "the form has no files; send at least one image")
        return [(file.filename or "image", await file.read()) for file in files]

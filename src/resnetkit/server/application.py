"""The HTTP application: images in, ranked classes out.

| request | answer |
|---|---|
| ``POST /predict?topk=5`` | the body is one image, or a form with any number of files |
| ``GET /model`` | the network, its classes, its preprocessing and the engine |
| ``GET /health`` | 200 while the process runs |
| ``GET /ready`` | 200, or 503 when the server is stopping |
| ``GET /metrics`` | counters for Prometheus |
| ``GET /`` | a page to try it |

A body above the limit is rejected with 413 before it is stored, an unreadable image with 422 and
the reason, and a request with 503 if the queue is full or other requests have too many bytes in
memory.
"""

from __future__ import annotations

import asyncio
import html
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST, Counter
from starlette.datastructures import UploadFile

from resnetkit.data.decoding import decode, fast_decode
from resnetkit.data.decoding.decode import Cut, UnreadableImageError
from resnetkit.files import utf8
from resnetkit.inference.engines.engine import Engine, available
from resnetkit.inference.prediction import NOT_FINITE, finite, ranked
from resnetkit.preprocess import Preprocess
from resnetkit.server.access import Access, protect_inside, protect_outside
from resnetkit.server.body_limit import BodyLimit
from resnetkit.server.dynamic_batching import Batcher, BusyError, Logits
from resnetkit.server.metrics import CountRequests, Metrics
from resnetkit.server.security_headers import page_policy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServedModel:
    """An engine with its preprocessing and class names.

    ``exact`` makes pixels bit-equal to torchvision's; otherwise a faster path is used, as in
    ``predict`` from 64 images on.
    """

    name: str
    engine: Engine
    preprocess: Preprocess
    classes: tuple[str, ...]
    network: str
    exact: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The description as JSON types."""
        return {
            "model": self.name,
            "network": self.network,
            "classes": [utf8(name) for name in self.classes],
            "preprocess": self.preprocess.to_dict(),
            "exact_pixels": self.exact,
            "engine": self.engine.to_dict(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of the server.

    A batch has at most ``max_batch_size`` images and waits ``max_queue_delay`` seconds for more; at
    most ``max_queue_size`` received images may wait. A body has at most ``max_body_bytes``, all
    bodies together ``max_total_body_bytes``, and a form ``max_files`` files. ``decode_threads`` is
    the number of decoder threads, by default that of CPUs.
    """

    max_batch_size: int = 8
    max_queue_delay: float = 0.0
    max_queue_size: int = 256
    max_body_bytes: int = 32 << 20
    max_total_body_bytes: int = 256 << 20
    max_files: int = 64
    decode_threads: int = field(default_factory=available)


class InferenceServer:
    """Handles requests for one model. Shared resources exist during ``lifespan``."""

    _batcher: Batcher
    _decoders: ThreadPoolExecutor
    _decoded: AbstractAsyncContextManager[object]

    def __init__(self, model: ServedModel, limits: Limits) -> None:
        self._model, self._limits, self._metrics = model, limits, Metrics()
        # Received images without an answer: those waiting, and a batch in each stream.
        computed = limits.max_batch_size * model.engine.streams
        self._pending, self._max_pending = 0, limits.max_queue_size + computed
        page = (files("resnetkit.server") / "page.html").read_text(encoding="utf-8")
        self._page_headers = {"content-security-policy": page_policy(page)}
        self._page = page.replace("{{network}}", html.escape(model.network))

    @property
    def requests(self) -> Counter:
        """Counts requests by path and status."""
        return self._metrics.requests

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Run the decoder threads and the batch thread."""
        limits = self._limits
        # An engine that crops gets whole images, one at a time; few are kept decoded.
        cuts = self._model.engine.options.cuts
        # torch's threads would compete with the engine's.
        fast = partial(fast_decode.pixels_of, torch=False)
        self._decode = decode.whole if cuts else decode.pixels_of if self._model.exact else fast
        self._decoded = asyncio.Semaphore(2 * limits.decode_threads) if cuts else nullcontext()
        with (
            Batcher(
                self._model.engine,
                max_batch_size=1 if cuts else limits.max_batch_size,
                max_queue_delay=limits.max_queue_delay,
                max_queue_size=self._max_pending,
                observe=self._metrics.observe,
            ) as self._batcher,
            ThreadPoolExecutor(limits.decode_threads, "decode") as self._decoders,
        ):
            self._metrics.watch(self._batcher)
            yield

    async def predict(self, request: Request, topk: int) -> dict[str, Any]:
        """The ``topk`` classes of each image of a request."""
        start = time.perf_counter()
        images = await _images(request, self._limits.max_files)
        if self._pending + len(images) > self._max_pending:
            raise _busy(f"{self._pending} images are already waiting")
        self._pending += len(images)
        try:
            answers = await asyncio.gather(*(self._answer(body, topk) for _, body in images))
        except BusyError as error:
            raise _busy(str(error)) from None
        finally:
            self._pending -= len(images)
        self._metrics.seconds.observe(time.perf_counter() - start)
        named = [{"image": name, **one} for (name, _), one in zip(images, answers, strict=True)]
        if all("problem" in one for one in named):
            reasons = "; ".join(f"{one['image']}: {one['problem']}" for one in named)
            raise HTTPException(422, f"no image can be read: {reasons}")
        return {"model": self._model.name, "images": named}

    async def _answer(self, body: bytes, topk: int) -> dict[str, Any]:
        """The classes of one image, or the reason why there are none."""
        run = asyncio.get_running_loop().run_in_executor
        try:
            async with self._decoded:
                pixels = await run(self._decoders, self._decoded_pixels, body)
                logits: Logits = await asyncio.wrap_future(self._batcher.submit(pixels))
        except UnreadableImageError as error:
            self._metrics.images.labels("unreadable").inc()
            return {"problem": error.reason}
        except BusyError:
            raise
        except Exception:
            self._metrics.images.labels("failed").inc()
            raise
        if not finite(logits):
            self._metrics.images.labels("not finite").inc()
            return {"problem": NOT_FINITE}
        self._metrics.images.labels("answered").inc()
        scores = ranked(logits, self._model.classes, topk)
        return {
            "predictions": [{"label": utf8(s.label), "probability": s.probability} for s in scores]
        }

    def _decoded_pixels(self, body: bytes) -> Cut:
        with self._metrics.decode_seconds.time():
            return self._decode(body, self._model.preprocess)

    def model(self) -> dict[str, Any]:
        """The served model."""
        return self._model.to_dict()

    def health(self) -> dict[str, str]:
        """Whether the process runs."""
        return {"status": "ok"}

    def metrics(self) -> Response:
        """Counters in Prometheus' text format."""
        return Response(self._metrics.text(), media_type=CONTENT_TYPE_LATEST)

    def page(self) -> HTMLResponse:
        """A page to try the model."""
        return HTMLResponse(self._page, headers=self._page_headers)


def create_app(
    model: ServedModel,
    limits: Limits | None = None,
    *,
    topk: int = 5,
    access: Access | None = None,
) -> FastAPI:
    """The ASGI application that serves ``model``.

    ``topk`` is the default number of classes per image. ``access`` states who may use it.
    """
    limits, access = limits or Limits(), access or Access()
    server = InferenceServer(model, limits)
    app = FastAPI(
        title="resnetkit",
        description=f"{model.network}: images in, ranked classes out.",
        lifespan=server.lifespan,
    )
    app.add_middleware(
        BodyLimit,
        max_body_bytes=limits.max_body_bytes,
        max_total_body_bytes=limits.max_total_body_bytes,
    )
    protect_inside(app, access)
    app.add_middleware(CountRequests, counter=server.requests)
    protect_outside(app, access)

    @app.post("/predict")
    async def predict(
        request: Request, topk: int = Query(default=topk, ge=1, le=max(1, len(model.classes)))
    ) -> dict[str, Any]:
        """The ``topk`` classes of each image, best first."""
        return await server.predict(request, topk)

    app.get("/model")(server.model)
    app.get("/health")(server.health)
    app.get("/metrics")(server.metrics)
    app.get("/", include_in_schema=False)(server.page)
    return app


def _busy(reason: str) -> HTTPException:
    return HTTPException(503, f"{reason}; try again", headers={"retry-after": "1"})


async def _images(request: Request, most: int) -> Sequence[tuple[str, bytes]]:
    """The images of a request with their names; raises ``HTTPException`` if there are none."""
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

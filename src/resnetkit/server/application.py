"""The HTTP application: images in, ranked classes out.

| request | answer |
|---|---|
| ``POST /predict?topk=5`` | the body is one image, or a form with any number of files |
| ``POST /models/NAME/predict`` | the same, of another model than the first |
| ``GET /model``, ``GET /models/NAME`` | the network, its classes, preprocessing and engine |
| ``GET /models`` | all models |
| ``GET /health`` | 200 while the process runs |
| ``GET /metrics`` | counters for Prometheus |
| ``/v2/...`` | the Open Inference Protocol, see ``open_inference`` |
| ``GET /`` | a page to try it |

A body above the limit is rejected with 413 before it is stored, an unreadable image with 422 and
the reason, and a request with 503 if the queue is full or other requests have too many bytes in
memory.
"""

from __future__ import annotations

import asyncio
import html
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.datastructures import UploadFile

from resnetkit.data.decoding.decode import UnreadableImageError
from resnetkit.files import utf8
from resnetkit.inference.prediction import NOT_FINITE, ranked
from resnetkit.server.body_limit import BodyLimit
from resnetkit.server.dynamic_batching import BusyError
from resnetkit.server.grpc_service import grpc_serving
from resnetkit.server.metrics import CountRequests, Metrics
from resnetkit.server.model_repository import ModelRepository, UnknownModelError
from resnetkit.server.model_runner import ModelRunner, NotFiniteRowError
from resnetkit.server.open_inference import OpenInference
from resnetkit.server.open_inference_routes import routes
from resnetkit.server.served_model import Limits, ServedModel


class InferenceServer:
    """Answers requests with the models of a repository, which is open during ``lifespan``."""

    def __init__(self, models: Sequence[ServedModel], limits: Limits) -> None:
        self.metrics, self.limits = Metrics(), limits
        self.repository = ModelRepository(models, limits, self.metrics)
        self._pending = 0
        page = (files("resnetkit.server") / "page.html").read_text(encoding="utf-8")
        self._page = page.replace("{{network}}", html.escape(self.repository.model().network))

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Run the threads of the models."""
        async with self.repository:
            yield

    @contextmanager
    def admitted(self, images: int, runner: ModelRunner) -> Iterator[None]:
        """Count images that have been received and are not answered yet.

        Raises ``BusyError`` if there are too many.
        """
        if self._pending + images > self.limits.max_queue_size + runner.computed:
            raise BusyError(f"{self._pending} images are already waiting")
        self._pending += images
        try:
            yield
        finally:
            self._pending -= images

    async def predict(self, request: Request, topk: int, name: str | None = None) -> dict[str, Any]:
        """The ``topk`` classes of each image of a request."""
        start = time.perf_counter()
        self.repository.model(name)  # 404 before the body is read
        images = await _images(request, self.limits.max_files)
        with self.repository.use(name) as runner, self.admitted(len(images), runner):
            model = runner.model
            answers = await asyncio.gather(*(_answer(runner, body, topk) for _, body in images))
        self.metrics.seconds.observe(time.perf_counter() - start)
        named = [{"image": name, **one} for (name, _), one in zip(images, answers, strict=True)]
        if all("problem" in one for one in named):
            reasons = "; ".join(f"{one['image']}: {one['problem']}" for one in named)
            raise HTTPException(422, f"no image can be read: {reasons}")
        return {"model": model.name, "images": named}

    def model(self, name: str | None = None) -> dict[str, Any]:
        """The first model, or another one."""
        return self.repository.model(name).to_dict()

    def page(self) -> HTMLResponse:
        """A page to try the first model."""
        return HTMLResponse(self._page)


def create_app(
    models: ServedModel | Sequence[ServedModel],
    limits: Limits | None = None,
    *,
    topk: int = 5,
    grpc_address: str | None = None,
) -> FastAPI:
    """The ASGI application that serves ``models``; the first is the default.

    ``topk`` is the default number of classes per image. At ``grpc_address``, ``HOST:PORT``, the
    models are served over gRPC too, while the application runs.
    """
    models = [models] if isinstance(models, ServedModel) else list(models)
    limits = limits or Limits()
    server = InferenceServer(models, limits)
    protocol = OpenInference(
        repository=server.repository, limits=limits, admitted=server.admitted, topk=topk
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        grpc = grpc_serving(protocol, grpc_address, server.metrics.requests)
        async with server.lifespan(app), grpc:
            yield

    app = FastAPI(
        title="resnetkit",
        description=f"{', '.join(m.network for m in models)}: images in, ranked classes out.",
        lifespan=lifespan,
    )
    app.add_middleware(
        BodyLimit,
        max_body_bytes=limits.max_body_bytes,
        max_total_body_bytes=limits.max_total_body_bytes,
    )
    app.add_middleware(CountRequests, counter=server.metrics.requests)
    app.add_exception_handler(UnknownModelError, _not_found)
    app.add_exception_handler(BusyError, _busy)
    most = max(1, *(len(model.classes) for model in models))

    @app.post("/predict")
    async def predict(
        request: Request, topk: int = Query(default=topk, ge=1, le=most)
    ) -> dict[str, Any]:
        """The ``topk`` classes of each image, best first."""
        return await server.predict(request, topk)

    @app.post("/models/{name}/predict")
    async def predict_with(
        request: Request, name: str, topk: int = Query(default=topk, ge=1, le=most)
    ) -> dict[str, Any]:
        """The ``topk`` classes of each image, best first, of one of the models."""
        return await server.predict(request, topk, name)

    @app.get("/model")
    def model() -> dict[str, Any]:
        """The first model."""
        return server.model()

    @app.get("/models")
    def all_models() -> list[dict[str, Any]]:
        """All models, and all versions of each."""
        return [one.to_dict() for one in server.repository.models]

    @app.get("/models/{name}")
    def model_named(name: str) -> dict[str, Any]:
        """One of the models."""
        return server.model(name)

    @app.get("/health")
    def health() -> dict[str, str]:
        """Whether the process runs."""
        return {"status": "ok"}

    @app.get("/metrics")
    def metrics() -> Response:
        """Counters in Prometheus' text format."""
        return Response(server.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    app.include_router(routes(protocol))
    app.get("/", include_in_schema=False)(server.page)
    return app


async def _answer(runner: ModelRunner, body: bytes, topk: int) -> dict[str, Any]:
    """The classes of one image, or the reason why there are none."""
    try:
        row = await runner.row(body)
    except UnreadableImageError as error:
        return {"problem": error.reason}
    except NotFiniteRowError:
        return {"problem": NOT_FINITE}
    scores = ranked(row, runner.model.classes, topk)
    return {"predictions": [{"label": utf8(s.label), "probability": s.probability} for s in scores]}


async def _busy(_: Request, error: Exception) -> Response:
    return JSONResponse(
        {"detail": f"{error}; try again"}, status_code=503, headers={"retry-after": "1"}
    )


async def _not_found(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, status_code=404)


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

"""The HTTP application: images in, ranked classes out.

| request | answer |
|---|---|
| ``POST /predict?topk=5`` | the body is one image, a form of files, or JSON with base64 or URLs |
| ``POST /embeddings`` | the same images, as pooled features |
| ``POST /models/NAME/predict``, ``.../embeddings`` | the same, of another model than the first |
| ``GET /model``, ``GET /models/NAME`` | the network, its classes, preprocessing and engine |
| ``GET /models`` | all models |
| ``GET /health`` | 200 while the process runs |
| ``GET /ready`` | 200, or 503 when the server is stopping |
| ``GET /metrics`` | counters for Prometheus |
| ``/v2/...`` | the Open Inference Protocol, see ``open_inference`` |
| ``GET /`` | a page to try it |
| ``GET /view``, ``POST /look`` | a page that opens a model, see ``inspection`` |

A body above the limit is rejected with 413 before it is stored, an unreadable image with 422 and
the reason, and a request with 503 if the queue is full or other requests have too many bytes in
memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.middleware.cors import CORSMiddleware

from resnetkit.server import tracing
from resnetkit.server.access import Access, protect_inside, protect_outside
from resnetkit.server.body_limit import BodyLimit
from resnetkit.server.dynamic_batching import BusyError
from resnetkit.server.grpc_service import grpc_methods, grpc_serving
from resnetkit.server.inference_server import Background, InferenceServer
from resnetkit.server.inspection import inspection_routes
from resnetkit.server.metrics import CountRequests
from resnetkit.server.model_repository import UnknownModelError
from resnetkit.server.open_inference import OpenInference
from resnetkit.server.open_inference_routes import protocol_routes
from resnetkit.server.request_images import Fetcher, one_line
from resnetkit.server.routes import routes
from resnetkit.server.served_model import Limits, ServedModel


def create_app(
    models: ServedModel | Sequence[ServedModel],
    limits: Limits | None = None,
    *,
    topk: int = 5,
    fetcher: Fetcher | None = None,
    root_path: str = "",
    grpc_address: str | None = None,
    access: Access | None = None,
    background: Sequence[Background] = (),
) -> FastAPI:
    """The ASGI application that serves ``models``; the first is the default.

    ``topk`` is the default number of classes per image. ``fetcher``, a ``UrlFetcher``, fetches URLs
    in requests, which are rejected without it. ``root_path`` is the path under which a proxy shows
    the server. At ``grpc_address``, ``HOST:PORT``, the models are served over gRPC too, while the
    application runs. ``access`` states who may use it. ``background`` runs while models are served,
    e.g. to replace them. Traces are sent as the variables ``OTEL_*`` of OpenTelemetry say.
    """
    models = [models] if isinstance(models, ServedModel) else list(models)
    limits, access = limits or Limits(), access or Access()
    server = InferenceServer(models, limits, topk, fetcher, background)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with server.lifespan(app), grpc_serving(app, grpc_address, limits):
            yield

    app = FastAPI(
        title="resnetkit",
        description=f"{', '.join(m.network for m in models)}: images in, ranked classes out.",
        lifespan=lifespan,
        telemetry={"auto_configure": tracing.is_asked_for(), "operation_spans": False},
        root_path=root_path,
    )
    app.add_middleware(
        BodyLimit,
        max_body_bytes=limits.max_body_bytes,
        max_total_body_bytes=limits.max_total_body_bytes,
    )
    protect_inside(app, access)
    app.add_middleware(CountRequests, counter=server.metrics.requests)
    protect_outside(app, access)
    if access.cors_origins:  # outside of all that rejects requests: a page may read why
        app.add_middleware(
            CORSMiddleware,
            allow_origins=access.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=["retry-after"],
        )
    app.add_exception_handler(UnknownModelError, _not_found)
    app.add_exception_handler(BusyError, _busy)
    app.add_exception_handler(RequestValidationError, _invalid)
    most = max(1, *(len(model.classes) for model in models))
    app.include_router(routes(server, topk, most))
    protocol = OpenInference(
        repository=server.repository,
        limits=limits,
        admitted=server.admitted,
        traffic=app.state.traffic,
        topk=topk,
    )
    app.include_router(protocol_routes(protocol))
    if models[0].bundle is not None:
        app.include_router(inspection_routes(server))
    if grpc_address is not None:
        app.include_router(grpc_methods(protocol))
    return app


async def _busy(_: Request, error: Exception) -> Response:
    return JSONResponse(
        {"detail": f"{error}; try again"}, status_code=503, headers={"retry-after": "1"}
    )


async def _not_found(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, status_code=404)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [{**one, "loc": one["loc"][1:]} for one in error.errors()]  # without "query"
    return JSONResponse({"detail": one_line(errors)}, status_code=422)

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

A body above the limit is rejected with 413 before it is stored, an unreadable image with 422 and
the reason, and a request with 503 if the queue is full or other requests have too many bytes in
memory.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.middleware.cors import CORSMiddleware

from resnetkit.errors import InputError
from resnetkit.server.access import Access, protect_inside, protect_outside
from resnetkit.server.api_keys import ApiKeys
from resnetkit.server.body_limit import BodyLimit
from resnetkit.server.dynamic_batching import BusyError
from resnetkit.server.grpc_service import grpc_serving
from resnetkit.server.inference_server import Background, InferenceServer
from resnetkit.server.metrics import CountRequests
from resnetkit.server.model_repository import UnknownModelError
from resnetkit.server.open_inference import OpenInference
from resnetkit.server.open_inference_routes import open_inference_routes
from resnetkit.server.request_images import Fetcher, one_line
from resnetkit.server.routes import routes
from resnetkit.server.served_model import Limits, ServedModel
from resnetkit.server.traffic import Traffic

_ORIGIN = re.compile(
    r"(http(?!.*:80$)|https(?!.*:443$))://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?",
    re.ASCII,
)


def create_app(
    models: ServedModel | Sequence[ServedModel],
    limits: Limits | None = None,
    *,
    topk: int = 5,
    fetcher: Fetcher | None = None,
    cors_origins: Sequence[str] = (),
    root_path: str = "",
    access: Access | None = None,
    background: Sequence[Background] = (),
    otlp: bool = False,
    grpc_address: str | None = None,
    grpc_shared: bool = False,
) -> FastAPI:
    """The ASGI application that serves ``models``; the first is the default.

    ``topk`` is the default number of classes per image. ``fetcher``, a ``UrlFetcher``, fetches URLs
    in requests, which are rejected without it. Pages of ``cors_origins`` (``https://host``, or
    ``*`` for all) may use the server from a browser. ``root_path`` is the path under which a proxy
    shows the server. ``access`` states who may use it. ``background`` runs while models are served,
    e.g. to replace them. With ``otlp``, traces are sent as the variables ``OTEL_*`` of
    OpenTelemetry say. At ``grpc_address``, ``HOST:PORT``, the models are served over gRPC too while
    the application runs; ``grpc_shared`` if other processes do so as well.

    Raises ``ValueError`` for an origin that is none.
    """
    models = [models] if isinstance(models, ServedModel) else list(models)
    limits, access = limits or Limits(), access or Access()
    check_origins(cors_origins)
    server = InferenceServer(models, limits, topk, fetcher, background)
    traffic = Traffic()
    protocol = OpenInference(
        repository=server.repository,
        limits=limits,
        admitted=server.admitted,
        topk=topk,
        stopping=lambda: traffic.stopping,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        keys = ApiKeys(access.api_keys) if access.api_keys else None
        grpc = grpc_serving(
            protocol, grpc_address, server.metrics.requests, keys, shared=grpc_shared
        )
        async with server.lifespan(app), grpc:
            yield

    app = FastAPI(
        title="resnetkit",
        description=f"{', '.join(m.network for m in models)}: images in, ranked classes out.",
        lifespan=lifespan,
        telemetry={"auto_configure": otlp, "operation_spans": False},
        root_path=root_path,
    )
    app.add_middleware(
        BodyLimit,
        max_body_bytes=limits.max_body_bytes,
        max_total_body_bytes=limits.max_total_body_bytes,
    )
    protect_inside(app, access)
    app.add_middleware(CountRequests, counter=server.metrics.requests)
    protect_outside(app, access, traffic)
    if cors_origins:  # outside of all that rejects requests: a page may read why
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=["retry-after"],
        )
    app.add_exception_handler(UnknownModelError, _not_found)
    app.add_exception_handler(BusyError, _busy)
    app.add_exception_handler(RequestValidationError, _invalid)
    most = max(1, *(len(model.classes) for model in models))
    app.include_router(routes(server, topk, most))
    app.include_router(open_inference_routes(protocol))
    return app


def check_origins(origins: Sequence[str]) -> None:
    """Raise ``InputError`` for an origin that a browser never sends."""
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise InputError(
                f"the CORS origin {origin!r} is none; give * or e.g. https://example.org:8443: "
                "no path, small letters, no usual port",
                field="cors_origins",
            )


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

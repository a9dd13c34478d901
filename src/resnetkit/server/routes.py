"""The routes of the HTTP API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic.json_schema import SkipJsonSchema

from resnetkit.server.inference_server import InferenceServer
from resnetkit.server.request_images import EmbeddingsRequest, PredictRequest
from resnetkit.server.responses import Embeddings, Health, ModelFacts, Predictions, failures

Topk = int | SkipJsonSchema[None]
#: Statuses of requests with images.
_OF_IMAGES = failures(400, 401, 404, 413, 415, 422, 429, 503)
_OF_FACTS = failures(401, 429)


def routes(server: InferenceServer, topk: int, most_classes: int) -> APIRouter:
    """The routes of ``server``; ``topk`` is the default, ``most_classes`` its maximum."""
    router = APIRouter()
    most, allowed = server.limits.max_files, {"minimum": 1, "maximum": most_classes}
    classes = Query(
        default=None,
        description=f"classes of each image; default: {topk}, or all if there are fewer",
        json_schema_extra=dict(allowed),
    )

    def get(path: str, **documented: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            router.head(path, include_in_schema=False)(function)
            return router.get(path, **documented)(function)

        return add

    images: dict[str, Any] = {
        "responses": _OF_IMAGES,
        "openapi_extra": _body(EmbeddingsRequest, most, allowed),
    }
    images_and_topk = {**images, "openapi_extra": _body(PredictRequest, most, allowed)}

    @router.post("/predict", response_model=Predictions, **images_and_topk)
    async def predict(request: Request, topk: Topk = classes) -> Any:
        """The ``topk`` classes of each image, best first."""
        return await server.predict(request, topk)

    @router.post("/models/{name}/predict", response_model=Predictions, **images_and_topk)
    async def predict_with(request: Request, name: str, topk: Topk = classes) -> Any:
        """The ``topk`` classes of each image, best first, of one of the models."""
        return await server.predict(request, topk, name)

    @router.post("/embeddings", response_model=Embeddings, **images)
    async def embeddings(request: Request) -> Any:
        """The pooled features of each image."""
        return await server.embed(request)

    @router.post("/models/{name}/embeddings", response_model=Embeddings, **images)
    async def embeddings_with(request: Request, name: str) -> Any:
        """The pooled features of each image, of one of the models."""
        return await server.embed(request, name)

    @get("/model", response_model=ModelFacts, responses=_OF_FACTS)
    def model() -> Any:
        """The first model."""
        return server.model()

    @get("/models", response_model=list[ModelFacts], responses=_OF_FACTS)
    def all_models() -> Any:
        """All models, and all versions of each."""
        return server.models()

    @get("/models/{name}", response_model=ModelFacts, responses=failures(401, 404, 429))
    def model_named(name: str) -> Any:
        """One of the models."""
        return server.model(name)

    @get("/health", response_model=Health)
    def health() -> Any:
        """Whether the process runs."""
        return {"status": "ok"}

    @get("/metrics", response_class=Response, responses={
        200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}, **_OF_FACTS,
    })  # fmt: skip
    def metrics() -> Response:
        """Counters in Prometheus' text format."""
        return Response(server.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    get("/", include_in_schema=False)(server.page)
    return router


def _body(schema: type[EmbeddingsRequest], most: int, topk: dict[str, int]) -> dict[str, Any]:
    """The documentation of a body with images, for OpenAPI."""
    document = schema.model_json_schema()
    parts = document.pop("$defs")
    document["properties"].get("topk", {}).update(topk)
    images = document["properties"]["images"]
    images.update(minItems=1, maxItems=most)
    images["items"]["anyOf"] = [
        parts[one["$ref"].rpartition("/")[2]] if "$ref" in one else one
        for one in images["items"]["anyOf"]
    ]
    files = {"type": "string", "format": "binary"}
    form = {"type": "object", "required": ["files"], "properties": {
        "files": {"type": "array", "items": files, "minItems": 1, "maxItems": most},
    }}  # fmt: skip
    contents = {"image/*": files, "multipart/form-data": form, "application/json": document}
    content = {kind: {"schema": one} for kind, one in contents.items()}
    return {"requestBody": {"required": True, "content": content}}

"""What the OpenAPI document says of the Open Inference Protocol."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class Failure(BaseModel):
    """Why there is no answer, in one line."""

    error: str


_FAILURES = {
    400: "the request is invalid, or an image cannot be read; the line says which and why",
    401: "the API key is missing or wrong",
    404: "no model of this name and version is served",
    413: "the body is larger than the limit",
    415: "the body has a Content-Encoding",
    429: "this client has too many requests in progress",
    503: "too many images or bytes are waiting, or the server is stopping; see Retry-After",
}
#: The JSON of a request; with the binary extension, tensors follow it.
_TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"enum": ["image", "pixels"]},
        "datatype": {"enum": ["BYTES", "UINT8"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "data": {"type": "array"},
        "parameters": {"type": "object"},
    },
}
_BODY = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": _TENSOR},
        "outputs": {"type": "array", "items": {"type": "object", "required": ["name"],
            "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}}}},
    },
}  # fmt: skip


def _documented(*statuses: int, body: bool = False) -> dict[str, Any]:
    failures: dict[int | str, dict[str, Any]] = {
        one: {"model": Failure, "description": _FAILURES[one]} for one in statuses
    }
    content = {"application/json": {"schema": _BODY}}
    extra = {"requestBody": {"required": True, "content": content}} if body else {}
    return {"responses": failures, "openapi_extra": extra}


OF_FACTS, OF_MODELS = _documented(401, 429), _documented(401, 404, 429)
OF_READINESS = _documented(401, 404, 429)
OF_READINESS["responses"][503] = {"description": "not ready"}
OF_INFERENCE = _documented(400, 401, 404, 413, 415, 429, 503, body=True)

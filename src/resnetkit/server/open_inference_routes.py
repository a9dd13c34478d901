"""The Open Inference Protocol over HTTP."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from resnetkit.errors import InputError, listed, parsed, shown, whole
from resnetkit.server.dynamic_batching import BusyError
from resnetkit.server.inference_tensors import Content
from resnetkit.server.model_repository import UnknownModelError
from resnetkit.server.open_inference import (
    DEFAULT_OUTPUT,
    MAX_ITEMS,
    InferInput,
    InferRequest,
    InferResponse,
    OpenInference,
    Parameters,
    RequestedOutput,
)
from resnetkit.server.open_inference_document import (
    OF_FACTS,
    OF_INFERENCE,
    OF_MODELS,
    OF_READINESS,
)

#: The length of the JSON part of a body that has binary data behind it; 0 if the body is an image.
HEADER = "inference-header-content-length"
#: Maximum number of values in the JSON part, each of which takes more memory than text.
MAX_VALUES = 10_000_000
_DIGITS = re.compile("[0-9]{1,18}")
_SHAPE = listed(whole(0, 2**63 - 1), 8)


def protocol_routes(protocol: OpenInference) -> APIRouter:
    """The protocol's routes, under ``/v2``."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"], route_class=ProtocolRoute)

    @router.get("", **OF_FACTS)
    async def server_metadata() -> dict[str, Any]:
        """Name, version and extensions of the server."""
        return protocol.server_metadata()

    @router.get("/health/live")
    async def live() -> dict[str, bool]:
        """Whether the process runs."""
        return {"live": True}

    @router.get("/health/ready", responses={503: {"description": "not ready"}})
    async def ready() -> Response:
        """Whether all models can be used; otherwise 503."""
        return _json({"ready": protocol.ready}, 200 if protocol.ready else 503)

    @router.post("/repository/index", **OF_FACTS)
    async def index() -> list[dict[str, str]]:
        """All versions of all models."""
        return protocol.index()

    @router.get("/models/{name}", **OF_MODELS)
    async def model_metadata(name: str) -> dict[str, Any]:
        """The inputs and outputs of a model."""
        return protocol.model_metadata(name)

    @router.get("/models/{name}/versions/{version}", **OF_MODELS)
    async def version_metadata(name: str, version: str) -> dict[str, Any]:
        """The inputs and outputs of a version of a model."""
        return protocol.model_metadata(name, version)

    @router.get("/models/{name}/ready", **OF_READINESS)
    async def model_ready(name: str) -> Response:
        """Whether a model can be used; otherwise 503."""
        return _readiness(protocol, name, None)

    @router.get("/models/{name}/versions/{version}/ready", **OF_READINESS)
    async def version_ready(name: str, version: str) -> Response:
        """Whether a version of a model can be used; otherwise 503."""
        return _readiness(protocol, name, version)

    @router.post("/models/{name}/infer", **OF_INFERENCE)
    async def infer(name: str, request: Request) -> Response:
        """The outputs of the last version of a model."""
        return await _infer(protocol, request, name, None)

    @router.post("/models/{name}/versions/{version}/infer", **OF_INFERENCE)
    async def infer_version(name: str, version: str, request: Request) -> Response:
        """The outputs of a version of a model."""
        return await _infer(protocol, request, name, version)

    return router


class ProtocolRoute(APIRoute):
    """Answers errors as the protocol does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except UnknownModelError as error:
                return _json({"error": str(error)}, 404)
            except BusyError as error:
                return _json({"error": f"{error}; try again"}, 503, {"retry-after": "1"})
            except InputError as error:
                return _json({"error": str(error)}, 400)

        return answer


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response in ASCII: names from requests may have halves of surrogate pairs."""
    return Response(json.dumps(content), status, headers, "application/json")


def _readiness(protocol: OpenInference, name: str, version: str | None) -> Response:
    ready = protocol.model_ready(name, version)
    return _json({"name": name, "ready": ready}, 200 if ready else 503)


async def _infer(
    protocol: OpenInference, request: Request, name: str, version: str | None
) -> Response:
    protocol.repository.model(name, version)  # 404 before the body is read
    given, binary = read_request(await request.body(), request.headers.get(HEADER))
    return written(await protocol.infer(given, name, version), binary)


def read_request(body: bytes, length: str | None) -> tuple[InferRequest, Mapping[str, bool]]:
    """A request, and for each output whether it is wanted as binary data.

    ``length`` is the value of ``HEADER``. Raises ``InputError``.
    """
    if length is None:
        size = len(body)
    elif not (_DIGITS.fullmatch(length) and int(length) <= len(body)):
        raise InputError(
            f"Inference-Header-Content-Length is {shown(length)}; it must be the length of the "
            f"JSON, at most the {len(body):,} bytes of the body"
        )
    else:
        size = int(length)
    if length is not None and size == 0:
        image = len(body).to_bytes(4, "little") + body
        given = InferInput(name="image", datatype="BYTES", shape=(1,), content=image)
        return InferRequest(inputs=[given]), {DEFAULT_OUTPUT: False}
    document = body[:size]
    if sum(document.count(sign) for sign in (b",", b"[", b"{")) > MAX_VALUES:
        raise InputError(f"the JSON has more than {MAX_VALUES:,} values; send them as binary data")
    fields = parsed(document, "the request")
    inputs, rest = [], memoryview(body)[size:]
    for one in _listed(fields, "inputs"):
        found, used = _input(one, rest)
        rest = rest[used:]
        inputs.append(found)
    if rest:
        raise InputError(
            f"{len(rest):,} bytes follow the inputs; the binary_data_size of all inputs must add "
            "up to the bytes after the JSON"
        )
    outputs = [
        RequestedOutput(name=_text(one, "name"), parameters=_parameters(one))
        for one in _listed(fields, "outputs")
    ]
    parameters = _parameters(fields)
    default = _flag(parameters, "binary_data_output", False)
    binary = {one.name: _flag(one.parameters, "binary_data", default) for one in outputs}
    binary = binary or {DEFAULT_OUTPUT: default}
    request = InferRequest(
        inputs=inputs,
        outputs=outputs,
        parameters=parameters,
        id="" if fields.get("id") is None else _text(fields, "id"),
    )
    return request, binary


def written(response: InferResponse, binary: Mapping[str, bool]) -> Response:
    """A response, with the outputs that ``binary`` says behind the JSON."""
    outputs, parts = [], []
    for tensor in response.outputs:
        one: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
        }
        if binary[tensor.name]:
            parts.append(tensor.to_bytes())
            one["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            one["data"] = tensor.to_list()
        outputs.append(one)
    fields: dict[str, Any] = {
        "model_name": response.model_name,
        "model_version": response.model_version,
        "outputs": outputs,
    }
    if response.id:
        fields["id"] = response.id
    if not parts:
        return _json(fields)
    document = json.dumps(fields).encode()
    headers = {HEADER: str(len(document))}
    return Response(b"".join([document, *parts]), 200, headers, "application/octet-stream")


def _input(fields: Mapping[str, Any], rest: memoryview) -> tuple[InferInput, int]:
    """An input, and the number of its bytes at the beginning of ``rest``."""
    name, datatype, shape = _text(fields, "name"), _text(fields, "datatype"), fields.get("shape")
    if not _SHAPE.fits(shape):
        raise InputError(f"the input {shown(name)} has no valid shape; it must be {_SHAPE.allowed}")
    parameters = _parameters(fields)
    content: Content = fields.get("data", [])
    used = 0
    if "binary_data_size" in parameters:
        used = parameters["binary_data_size"]
        rule = whole(0, len(rest))
        if not rule.fits(used):
            raise InputError(
                f"the input {shown(name)} has binary_data_size {shown(used)}; it must be "
                f"{rule.allowed}, the bytes that follow the JSON"
            )
        if "data" in fields:
            raise InputError(f"the input {shown(name)} has both data and binary data; give one")
        content = rest[:used]
    elif not isinstance(content, list):
        raise InputError(f"the input {shown(name)} has data {shown(content)}; it must be a list")
    return InferInput(
        name=name,
        datatype=datatype,
        shape=tuple(shape or ()),
        content=content,
        parameters=parameters,
    ), used


def _listed(fields: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects of a list; no list is an empty one."""
    found = fields.get(name)
    found = [] if found is None else found
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise InputError(f"{name} is {shown(found)}; it must be a list of objects")
    if len(found) > MAX_ITEMS:
        raise InputError(f"{len(found):,} {name}; a request has at most {MAX_ITEMS}")
    return found


def _text(fields: Mapping[str, Any], name: str) -> str:
    found = fields.get(name)
    if not isinstance(found, str):
        raise InputError(f"{name} is {shown(found)}; it must be a string")
    return found


def _parameters(fields: Mapping[str, Any]) -> dict[str, Any]:
    found = fields.get("parameters")
    if not isinstance(found, dict | None):
        raise InputError(f"parameters is {shown(found)}; it must be an object")
    return found or {}


def _flag(parameters: Parameters, name: str, default: bool) -> bool:
    found = parameters.get(name, default)
    if not isinstance(found, bool):
        raise InputError(f"{name} is {shown(found)}; it must be true or false")
    return found

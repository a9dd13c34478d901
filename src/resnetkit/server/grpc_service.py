"""The Open Inference Protocol over gRPC, and gRPC's health check, on the event loop of the server.

A call goes through the application like a ``POST`` of its message to a path with the name of its
method. So keys, limits, metrics, the access log and the orderly end are those of HTTP. Only calls
reach these paths.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.types import ASGIApp, Message, Scope

from resnetkit.errors import InputError, check_installed, shown
from resnetkit.server.grpc_messages import described, messages
from resnetkit.server.inference_tensors import Content
from resnetkit.server.model_repository import UnknownModelError
from resnetkit.server.open_inference import (
    MAX_ITEMS,
    InferInput,
    InferRequest,
    InferResponse,
    OpenInference,
    RequestedOutput,
)
from resnetkit.server.open_inference_routes import ProtocolRoute
from resnetkit.server.served_model import Limits

#: Seconds that calls in progress have to end when the application ends.
GRACE = 30.0
#: Longer messages of errors are cut off: they are sent as a header, of up to 8 KB.
MAX_MESSAGE = 1000
#: The files that describe the services.
SERVICES = ("open_inference", "grpc_health")
#: The extension of ASGI that the scope of a call has.
_EXTENSION = "resnetkit.grpc"
#: gRPC's codes for the statuses of the application; INTERNAL for others.
_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    413: "RESOURCE_EXHAUSTED",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
#: The field of ``InferTensorContents`` that has the elements of a datatype.
_CONTENTS = {"BYTES": "bytes_contents", "UINT8": "uint_contents", "FP32": "fp32_contents"}
_log = logging.getLogger(__name__)


@asynccontextmanager
async def grpc_serving(app: ASGIApp, address: str | None, limits: Limits) -> AsyncIterator[None]:
    """Serve ``app``, which has ``grpc_methods``, at ``HOST:PORT``; nowhere if that is None.

    Raises ``InputError`` for an address that cannot be used, and if grpcio is not installed.
    """
    if address is None:
        yield
        return
    check_installed("grpc", "gRPC")
    import grpc

    options = [
        ("grpc.max_receive_message_length", limits.max_body_bytes),
        ("grpc.max_send_message_length", -1),
    ]
    server = grpc.aio.server(options=options)
    for file in SERVICES:
        for service in described(file).service:
            name = f"{described(file).package}.{service.name}"
            methods = {one.name: _handler(app, f"/{name}/{one.name}") for one in service.method}
            handler = grpc.method_handlers_generic_handler(name, methods)
            server.add_generic_rpc_handlers([handler])
    try:
        server.add_insecure_port(address)
    except RuntimeError:
        raise InputError(f"cannot listen on {address}; use another host or port") from None
    await server.start()
    try:
        yield
    finally:
        await server.stop(GRACE)


def _handler(app: ASGIApp, path: str) -> Any:
    """The handler of a method, whose messages are bytes here."""
    import grpc

    async def call(body: bytes, context: Any) -> bytes:
        status, answer = await _post(app, _scope(path, context), body)
        if status == 200:
            return answer
        code = grpc.StatusCode[_CODES.get(status, "INTERNAL")]
        await context.abort(code, _reason(answer)[:MAX_MESSAGE])
        raise AssertionError  # abort raises

    return grpc.unary_unary_rpc_method_handler(call)


def _scope(path: str, context: Any) -> Scope:
    """The scope of a call, with the headers and the address of its client."""
    host, _, port = context.peer().partition(":")[2].rpartition(":")
    given = context.invocation_metadata() or ()
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "2",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(key.encode(), value.encode("latin-1", "replace"))
                    for key, value in given if isinstance(value, str)],
        "client": (unquote(host).strip("[]"), int(port)) if port.isdigit() else None,
        "server": None,
        "extensions": {_EXTENSION: {}},
    }  # fmt: skip


async def _post(app: ASGIApp, scope: Scope, body: bytes) -> tuple[int, bytes]:
    """The status and body of the application's answer."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    status, found = 500, bytearray()

    async def receive() -> Message:
        # A call that its client abandons is cancelled.
        return left.pop() if left else await asyncio.Future()

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            found.extend(message.get("body", b""))

    try:
        await app(scope, receive, send)
    except Exception:  # it has been answered with 500
        _log.exception("%s failed", scope["path"])
    return status, bytes(found)


def _reason(answer: bytes) -> str:
    """The message of an error: text, or a JSON object that has it."""
    text = answer.decode(errors="replace")
    if text.startswith("{"):
        fields = json.loads(text)
        return str(fields.get("error", fields.get("detail", text)))
    return text


def grpc_methods(protocol: OpenInference) -> APIRouter:
    """The paths of the methods."""
    check_installed("grpc", "gRPC")
    router = APIRouter(route_class=ProtocolRoute, include_in_schema=False)
    for file in SERVICES:
        known = messages(file)
        for service in described(file).service:
            for one in service.method:
                path = f"/{described(file).package}.{service.name}/{one.name}"
                given, response = known[one.input_type], known[one.output_type]
                router.post(path)(_endpoint(protocol, _ANSWERS[one.name], given, response))
    return router


def _endpoint(
    protocol: OpenInference, answer: _Answer, given: Any, response: Any
) -> Callable[[Request], Awaitable[Response]]:
    from google.protobuf.message import DecodeError

    async def endpoint(request: Request) -> Response:
        if _EXTENSION not in request.scope.get("extensions", ()):
            raise HTTPException(404)
        try:
            message = given.FromString(await request.body())
        except DecodeError:
            raise InputError("the message cannot be parsed") from None
        found = await answer(protocol, message, response)
        return Response(found.SerializeToString())

    return endpoint


async def _live(_: OpenInference, __: Any, response: Any) -> Any:
    return response(live=True)


async def _ready(protocol: OpenInference, _: Any, response: Any) -> Any:
    return response(ready=protocol.ready)


async def _model_ready(protocol: OpenInference, request: Any, response: Any) -> Any:
    return response(ready=protocol.model_ready(request.name, request.version or None))


async def _server_metadata(protocol: OpenInference, _: Any, response: Any) -> Any:
    return response(**protocol.server_metadata())


async def _model_metadata(protocol: OpenInference, request: Any, response: Any) -> Any:
    return response(**protocol.model_metadata(request.name, request.version or None))


async def _index(protocol: OpenInference, _: Any, response: Any) -> Any:
    return response(models=protocol.index())


async def _infer(protocol: OpenInference, request: Any, response: Any) -> Any:
    given = _request(request)
    found = await protocol.infer(given, request.model_name, request.model_version or None)
    return _response(found, response, raw=bool(request.raw_input_contents))


async def _health(protocol: OpenInference, request: Any, response: Any) -> Any:
    known = ["", *(f"{described(file).package}.{service.name}"
                   for file in SERVICES for service in described(file).service)]  # fmt: skip
    if request.service not in known:
        raise UnknownModelError(f"no service {shown(request.service)}; it must be one of {known}")
    return response(status="SERVING" if protocol.ready else "NOT_SERVING")


_Answer = Callable[[OpenInference, Any, Any], Awaitable[Any]]
_ANSWERS: dict[str, _Answer] = {
    "ServerLive": _live,
    "ServerReady": _ready,
    "ModelReady": _model_ready,
    "ServerMetadata": _server_metadata,
    "ModelMetadata": _model_metadata,
    "ModelInfer": _infer,
    "RepositoryIndex": _index,
    "Check": _health,
}


def _request(message: Any) -> InferRequest:
    """A ``ModelInferRequest``. Raises ``InputError`` for inputs without their elements."""
    for name in ("inputs", "outputs"):
        if (count := len(getattr(message, name))) > MAX_ITEMS:
            raise InputError(f"{count:,} {name}; a request has at most {MAX_ITEMS}")
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InputError(
            f"{len(raw)} raw_input_contents for {len(message.inputs)} inputs; give one for each, "
            "or none"
        )
    inputs = []
    for number, one in enumerate(message.inputs):
        field = _CONTENTS.get(one.datatype, "bytes_contents")
        elements: Content = raw[number] if raw else getattr(one.contents, field)
        if raw and one.HasField("contents"):
            raise InputError(f"the input {shown(one.name)} has contents and raw_input_contents")
        inputs.append(
            InferInput(
                name=one.name,
                datatype=one.datatype,
                shape=tuple(one.shape[:9]),  # too many for any input
                content=elements,
                parameters=_parameters(one),
            )
        )
    outputs = [RequestedOutput(name=o.name, parameters=_parameters(o)) for o in message.outputs]
    return InferRequest(
        inputs=inputs, outputs=outputs, parameters=_parameters(message), id=message.id
    )


def _parameters(message: Any) -> dict[str, object]:
    """The parameters of a message; one without a value is None."""
    if (count := len(message.parameters)) > MAX_ITEMS:
        raise InputError(f"{count:,} parameters; there are at most {MAX_ITEMS}")
    choices = {name: one.WhichOneof("parameter_choice") for name, one in message.parameters.items()}
    return {
        name: getattr(message.parameters[name], choice) if choice else None
        for name, choice in choices.items()
    }


def _response(found: InferResponse, response: Any, *, raw: bool) -> Any:
    """A ``ModelInferResponse``, with the elements where the request had them."""
    message = response(model_name=found.model_name, model_version=found.model_version, id=found.id)
    for tensor in found.outputs:
        output = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if raw:
            message.raw_output_contents.append(tensor.to_bytes())
        else:
            elements = tensor.elements if isinstance(tensor.elements, list) else tensor.to_list()
            getattr(output.contents, _CONTENTS[tensor.datatype]).extend(elements)
    return message

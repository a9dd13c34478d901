"""The Open Inference Protocol over gRPC, and gRPC's health check, on the event loop of the server.

A message has at most ``Limits.max_body_bytes``, those of all calls in progress
``max_total_body_bytes``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import Counter

from resnetkit.errors import InputError, check_installed, shown
from resnetkit.server.api_keys import ApiKeys
from resnetkit.server.dynamic_batching import BusyError
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

#: Seconds that calls in progress have to end when the server stops.
GRACE = 30.0
#: Longer messages of errors are cut off: they are sent as a header, of up to 8 KB.
MAX_MESSAGE = 1000
#: The files that describe the services.
SERVICES = ("open_inference", "grpc_health")
#: The field of ``InferTensorContents`` that has the elements of a datatype.
_CONTENTS = {"BYTES": "bytes_contents", "UINT8": "uint_contents", "FP32": "fp32_contents"}
#: Methods that anybody may call.
PROBES = ("ServerLive", "ServerReady", "Check")
_log = logging.getLogger(__name__)


class _NotAllowedError(Exception):
    """A call is not allowed."""


@asynccontextmanager
async def grpc_serving(
    protocol: OpenInference,
    address: str | None,
    requests: Counter,
    keys: ApiKeys | None = None,
    *,
    shared: bool = False,
) -> AsyncIterator[None]:
    """Serve ``protocol`` at ``address``, ``HOST:PORT``, until left; nowhere if it is None.

    ``requests`` counts calls by method and status. With ``keys``, a call needs one of them in its
    metadata; the health of the server is told to anybody. With ``shared``, other processes may
    listen at the address too. Raises ``InputError`` for an address that cannot be used, and if
    grpcio is not installed.
    """
    if address is None:
        yield
        return
    check_installed("grpc", "gRPC")
    import grpc

    limits = protocol.limits
    options = [
        ("grpc.max_receive_message_length", limits.max_body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", int(shared)),  # otherwise an address in use is an error
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers(_Calls(protocol, requests, keys).handlers())
    try:
        server.add_insecure_port(address)
    except RuntimeError:
        raise InputError(f"cannot listen on {address}; use another host or port") from None
    await server.start()
    try:
        yield
    finally:
        await server.stop(GRACE)


class _Calls:
    """Answers calls: each method has a function from its request to its response."""

    def __init__(
        self,
        protocol: OpenInference,
        requests: Counter,
        keys: ApiKeys | None,
    ) -> None:
        limits = protocol.limits
        self._protocol, self._requests, self._keys = protocol, requests, keys
        self._bytes = 0
        self._most = max(limits.max_body_bytes, limits.max_total_body_bytes)
        self._messages = {name: messages(name) for name in SERVICES}

    def handlers(self) -> list[Any]:
        """The services, for ``add_generic_rpc_handlers``."""
        import grpc

        found = []
        for file in SERVICES:
            for service in described(file).service:
                name = f"{described(file).package}.{service.name}"
                methods = {one.name: self._method(file, name, one) for one in service.method}
                found.append(grpc.method_handlers_generic_handler(name, methods))
        return found

    def _method(self, file: str, service: str, method: Any) -> Any:
        """The handler of a method, which is given bytes, so that it can count and check them."""
        import grpc
        from google.protobuf.message import DecodeError

        given, answer = self._messages[file][method.input_type], _ANSWERS[method.name]
        response, keys = self._messages[file][method.output_type], self._keys

        async def call(body: bytes, context: Any) -> bytes:
            code, problem = grpc.StatusCode.OK, ""
            self._bytes += len(body)
            try:
                metadata = dict(context.invocation_metadata())
                if keys and method.name not in PROBES and not keys.name(metadata):
                    raise _NotAllowedError
                if self._bytes > self._most:
                    raise BusyError(f"{self._most:,} bytes of other requests are already waiting")
                found = await answer(self._protocol, given.FromString(body), response)
                return bytes(found.SerializeToString())
            except DecodeError:
                code, problem = grpc.StatusCode.INVALID_ARGUMENT, "the message cannot be parsed"
            except _NotAllowedError:
                code, problem = grpc.StatusCode.UNAUTHENTICATED, "the call has no key that is known"
            except UnknownModelError as error:
                code, problem = grpc.StatusCode.NOT_FOUND, str(error)
            except BusyError as error:
                code, problem = grpc.StatusCode.UNAVAILABLE, f"{error}; try again"
            except InputError as error:
                code, problem = grpc.StatusCode.INVALID_ARGUMENT, str(error)
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED
                raise
            except Exception:
                _log.exception("%s failed", method.name)
                code, problem = grpc.StatusCode.INTERNAL, "the request failed; see the log"
            finally:
                self._bytes -= len(body)
                self._requests.labels(f"/{service}/{method.name}", code.name).inc()
            await context.abort(code, problem[:MAX_MESSAGE])
            raise AssertionError  # abort raises

        return grpc.unary_unary_rpc_method_handler(call)


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


_ANSWERS: dict[str, Callable[[OpenInference, Any, Any], Awaitable[Any]]] = {
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

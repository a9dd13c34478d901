"""The Open Inference Protocol, version 2, apart from its transports.

https://github.com/kserve/open-inference-protocol; with Triton's extensions for binary data and
classification. ``open_inference_routes`` has it over HTTP, ``grpc_service`` over gRPC.

An input is ``image``, encoded files, or ``pixels``, images that are resized and cropped. Parameters
of other names than ``topk``, ``classification`` and those of binary data are passed over, as in
other servers of the protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from resnetkit.data.decoding.decode import UnreadableImageError
from resnetkit.errors import InputError, shown, whole
from resnetkit.files import utf8
from resnetkit.inference.engines.engine import Output, Rows
from resnetkit.inference.prediction import check_classes
from resnetkit.server.dynamic_batching import BusyError
from resnetkit.server.inference_tensors import (
    Content,
    Datatype,
    Tensor,
    TensorSpec,
    byte_strings,
    numbers,
)
from resnetkit.server.model_repository import ModelRepository
from resnetkit.server.model_runner import ModelRunner, NotFiniteRowError
from resnetkit.server.served_model import Limits, ServedModel
from resnetkit.server.traffic import Traffic
from resnetkit.version import __version__

#: Triton's names of what is supported beyond the protocol.
EXTENSIONS = ("binary_tensor_data", "classification", "parameters")
#: Maximum number of inputs, of outputs, and of parameters over gRPC.
MAX_ITEMS = 64
#: The output of a request that names none.
DEFAULT_OUTPUT = "probabilities"
_DATATYPES: dict[str, Datatype] = {"uint8": "UINT8", "float32": "FP32"}

Parameters = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InferInput:
    """An input as it was received."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: Content
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedOutput:
    """The name of an output, and how it is wanted."""

    name: str
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InferRequest:
    """A request as it was received, without its model."""

    inputs: Sequence[InferInput]
    outputs: Sequence[RequestedOutput] = ()
    parameters: Parameters = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InferResponse:
    """The outputs of a request, in the order requested."""

    model_name: str
    model_version: str
    id: str
    outputs: Sequence[Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenInference:
    """Answers the protocol's requests with the models of a repository.

    ``admitted`` counts the images of a request while they wait, and raises ``BusyError`` if there
    are too many. ``traffic`` says whether the server is stopping. ``topk`` is the default number of
    ``labels`` and ``scores``.
    """

    repository: ModelRepository
    limits: Limits
    admitted: Callable[[int, ModelRunner], AbstractContextManager[None]]
    traffic: Traffic
    topk: int = 5

    @property
    def ready(self) -> bool:
        """Whether all models can be used, and the server is not stopping."""
        return self.repository.ready and not self.traffic.stopping

    def server_metadata(self) -> dict[str, Any]:
        """Name, version and extensions."""
        return {"name": "resnetkit", "version": __version__, "extensions": list(EXTENSIONS)}

    def model_metadata(self, name: str, version: str | None = None) -> dict[str, Any]:
        """The inputs and outputs of a model. Raises ``UnknownModelError``."""
        model = self.repository.model(name, version)
        return {
            "name": name,
            "versions": self.repository.versions(name),
            "platform": f"resnetkit_{model.engine.name}",
            "inputs": [spec.to_dict() for spec in inputs_of(model).values()],
            "outputs": [spec.to_dict() for spec in outputs_of(model).values()],
        }

    def model_ready(self, name: str, version: str | None = None) -> bool:
        """Whether a model can be used. Raises ``UnknownModelError``."""
        self.repository.model(name, version)
        return self.ready

    def index(self) -> list[dict[str, str]]:
        """All versions of all models, as Triton lists them."""
        state = "READY" if self.ready else "UNAVAILABLE"
        return [
            {"name": model.name, "version": model.version, "state": state, "reason": ""}
            for model in self.repository.models
        ]

    async def infer(
        self, request: InferRequest, name: str, version: str | None = None
    ) -> InferResponse:
        """The outputs of a request.

        Raises ``InputError`` if it is invalid or an image cannot be read, ``UnknownModelError``,
        and ``BusyError``.
        """
        model = self.repository.model(name, version)
        if not self.repository.ready:
            raise BusyError("the server is not ready")
        wanted = [_Wanted.of(one, model, request.parameters, self.topk)
                  for one in request.outputs or [RequestedOutput(name=DEFAULT_OUTPUT)]]  # fmt: skip
        if len({one.name for one in wanted}) < len(wanted):
            raise InputError("an output is requested twice; name each once")
        images = _images(request, model, self.limits.max_files)
        kinds = tuple(dict.fromkeys(one.rows for one in wanted))
        with (
            self.repository.use(name, version) as runner,
            self.admitted(len(images), runner),
        ):
            rows = await _rows(runner, images, kinds)
        return InferResponse(
            model_name=model.name,
            model_version=model.version,
            id=request.id,
            outputs=[one.tensor(rows[one.rows], model.classes) for one in wanted],
        )


def inputs_of(model: ServedModel) -> dict[str, TensorSpec]:
    """The inputs of a model, of which a request has one.

    An engine for float pixels does not take encoded images, nor does one for other channels than
    those of images; one that crops images itself takes nothing else.
    """
    facts, options = model.preprocess, model.engine.options
    shape = (-1, facts.size, facts.size, facts.channel_count)
    specs = []
    if options.pixels == "uint8" and facts.channels != "other":
        specs.append(TensorSpec(name="image", datatype="BYTES", shape=(-1,)))
    if not options.cuts:
        specs.append(TensorSpec(name="pixels", datatype=_DATATYPES[options.pixels], shape=shape))
    return {spec.name: spec for spec in specs}


def outputs_of(model: ServedModel) -> dict[str, TensorSpec]:
    """The outputs of a model."""
    classes = len(model.classes)
    specs = [
        TensorSpec(name="probabilities", datatype="FP32", shape=(-1, classes)),
        TensorSpec(name="logits", datatype="FP32", shape=(-1, classes)),
        TensorSpec(name="labels", datatype="BYTES", shape=(-1, -1)),
        TensorSpec(name="scores", datatype="FP32", shape=(-1, -1)),
    ]
    if model.embedder:
        shape = (-1, model.embedder.options.features or -1)
        specs.append(TensorSpec(name="embeddings", datatype="FP32", shape=shape))
    return {spec.name: spec for spec in specs}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """An output of a request: which rows it is made of, and how many classes it has."""

    name: str
    rows: Output
    topk: int
    classification: bool

    @staticmethod
    def of(
        requested: RequestedOutput, model: ServedModel, parameters: Parameters, topk: int
    ) -> _Wanted:
        """Check a requested output."""
        name, known = requested.name, outputs_of(model)
        if name not in known:
            raise InputError(f"the output is {shown(name)}; it must be one of {', '.join(known)}")
        _check_shared_memory(requested.parameters, f"output {name}")
        given: Parameters = {"topk": min(topk, len(model.classes)), **parameters}
        key = "topk"
        if classification := "classification" in requested.parameters:
            if name not in ("probabilities", "logits"):
                raise InputError(
                    f"the output {name} has classification; only probabilities and logits take it"
                )
            given, key = requested.parameters, "classification"
        rule = whole(1, len(model.classes))
        if not rule.fits(given[key]):
            raise InputError(f"{key} is {shown(given[key])}; it must be {rule.allowed}")
        return _Wanted(
            name=name,
            rows="embeddings" if name == "embeddings" else "logits",
            topk=cast("int", given[key]),
            classification=classification,
        )

    def tensor(self, rows: Rows, classes: Sequence[str]) -> Tensor:
        """The output of the rows ``(N, classes)`` or ``(N, features)`` of all images."""
        values = rows
        if self.name in ("probabilities", "scores"):
            values = _softmax(rows)
        if self.name not in ("labels", "scores") and not self.classification:
            return Tensor(name=self.name, datatype="FP32", shape=values.shape, elements=values)
        # Ties are in class order, as in `predict`.
        best = np.argsort(-rows, axis=1, kind="stable")[:, : self.topk]
        values = np.take_along_axis(values, best, axis=1)
        if self.name == "scores":
            return Tensor(name=self.name, datatype="FP32", shape=values.shape, elements=values)
        texts = [utf8(classes[number]) for number in best.ravel().tolist()]
        if self.classification:
            found = zip(values.ravel().tolist(), best.ravel().tolist(), texts, strict=True)
            texts = [f"{value:.7g}:{number}:{text}" for value, number, text in found]
        elements = [text.encode() for text in texts]
        return Tensor(name=self.name, datatype="BYTES", shape=best.shape, elements=elements)


def _softmax(logits: Rows) -> Rows:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return cast("Rows", shares / shares.sum(axis=1, keepdims=True))


def _check_shared_memory(parameters: Parameters, what: str) -> None:
    if any(name.startswith("shared_memory") for name in parameters):
        raise InputError(f"the {what} is in shared memory; send it in the message")


def _images(request: InferRequest, model: ServedModel, most: int) -> list[bytes] | npt.NDArray[Any]:
    """The encoded images of a request, or the pixels ``(N, H, W, C)``; at least one."""
    known = inputs_of(model)
    names = " or ".join(known)
    if len(request.inputs) != 1:
        raise InputError(f"the request has {len(request.inputs)} inputs; give one: {names}")
    [given] = request.inputs
    spec = known.get(given.name)
    if spec is None:
        raise InputError(f"the input is {shown(given.name)}; it must be {names}")
    if given.datatype != spec.datatype:
        raise InputError(
            f"the input {given.name} has datatype {shown(given.datatype)}; it must be "
            f"{spec.datatype}"
        )
    _check_shape(given, spec, most)
    _check_shared_memory(given.parameters, f"input {given.name}")
    try:
        if spec.datatype != "BYTES":
            return numbers(given.content, spec.datatype, given.shape)
        kind = given.parameters.get("content_type", "base64")
        if kind != "base64":
            raise InputError(f"content_type {shown(kind)}; it must be base64")
        return byte_strings(given.content, given.shape)
    except InputError as error:
        raise error.behind(f"the input {given.name} has ") from None


def _check_shape(given: InferInput, spec: TensorSpec, most: int) -> None:
    """A batched model's client may send images as ``(N, 1)``."""
    shapes = [spec.shape, (-1, 1)] if spec.datatype == "BYTES" else [spec.shape]
    if given.shape[:1] and not 1 <= given.shape[0] <= most:
        raise InputError(
            f"the input {given.name} has {given.shape[0]} images; it must have 1 to {most}"
        )
    if not any(given.shape[1:] == shape[1:] for shape in shapes) or not given.shape:
        allowed = " or ".join(str(list(shape)).replace("-1", "N") for shape in shapes)
        raise InputError(
            f"the input {given.name} has shape {list(given.shape[:8])}; it must be {allowed}"
        )


async def _rows(
    runner: ModelRunner, images: list[bytes] | npt.NDArray[Any], kinds: tuple[Output, ...]
) -> dict[Output, Rows]:
    """The rows of all images. Raises ``InputError`` that names each image that has none."""
    compute: Callable[..., Any] = runner.rows if isinstance(images, list) else runner.rows_of_pixels
    found = await asyncio.gather(
        *(compute(image, kinds) for image in images), return_exceptions=True
    )
    problems, rows = [], []
    for number, row in enumerate(found):
        if isinstance(row, UnreadableImageError | NotFiniteRowError):
            reason = row.reason if isinstance(row, UnreadableImageError) else str(row)
            problems.append(f"image {number}: {reason}")
        elif isinstance(row, BaseException):
            raise row
        else:
            rows.append(row)
    if problems:
        raise InputError("; ".join(problems))
    stacked: dict[Output, Rows] = {kind: np.stack([row[kind] for row in rows]) for kind in kinds}
    if "logits" in stacked:
        check_classes(stacked["logits"][0], runner.model.classes)
    return stacked

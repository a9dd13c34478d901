"""The OpenVINO engine: one request for single answers, several for a stream of batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import Engine, EngineOptions, Pixels, Rows, available
from resnetkit.inference.engines.pipelining import by_parts, joined, parts


class OpenVINO(Engine):
    """An ONNX graph as bytes, or a file of ONNX or OpenVINO's IR, that takes pixels and gives one
    row an image.

    ``answer`` gives all threads to one batch; ``infer_batches`` splits them among ``streams``
    batches. The network is compiled for each number of streams when it is first asked for.
    ``threads`` is the number of threads of all. With ``bf16`` what would be float32 is computed in
    bfloat16.

    Raises ``ValueError`` for a graph that OpenVINO cannot open, and for ``bf16`` on a processor
    without it.
    """

    version = openvino.__version__.partition("-")[0]

    def __init__(
        self,
        model: bytes | Path,
        options: EngineOptions,
        *,
        device: str = "CPU",
        bf16: bool = False,
    ) -> None:
        super().__init__(replace(options, device=device.lower()))
        self.name = "openvino-bf16" if bf16 else "openvino"
        if bf16 and options.precision != "int8":
            self.precision = "bf16"
        self._bf16 = bf16
        self._device = device
        self._compiled: dict[int, openvino.CompiledModel] = {}
        self._core = openvino.Core()
        # One stream, or as many as there are threads: which is faster depends on the caches.
        self.ways = tuple(sorted({1, options.threads or available()}))
        if bf16 and not has_bf16():
            raise InputError(
                "this processor has no bfloat16 (AVX-512 BF16 or AMX) for openvino-bf16 to compute "
                "in; take openvino"
            )
        try:
            self._model = self._core.read_model(model if isinstance(model, bytes) else str(model))
        except RuntimeError as error:
            raise InputError(f"OpenVINO cannot open the graph: {error}") from None

    def _model_of(self, streams: int) -> openvino.CompiledModel:
        if streams not in self._compiled:
            # Without the hint of a type, machines with bfloat16 would compute in that, unasked.
            wanted: dict[str, Any] = {
                "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
                "NUM_STREAMS": streams,
                "INFERENCE_PRECISION_HINT": "bf16" if self._bf16 else "f32",
            }
            if self.options.threads is not None:
                wanted["INFERENCE_NUM_THREADS"] = self.options.threads
            try:
                compiled = self._core.compile_model(self._model, self._device, wanted)
            except RuntimeError as error:
                raise InputError(f"OpenVINO cannot compile the graph: {error}") from None
            self._compiled[streams] = compiled
        return self._compiled[streams]

    def answer(self, pixels: Pixels) -> Rows:
        """The rows of one batch ``(N, H, W, C)``."""
        with _told():
            return self._answer(pixels)

    def _answer(self, pixels: Pixels) -> Rows:
        request = self._model_of(1).create_infer_request()
        rows = []
        for part in parts(pixels, self.options.batch, self.options.pixels):
            request.infer([part])
            rows.append(_rows(request))
        return joined(rows, len(pixels))

    def infer_batches(self, batches: Iterable[Pixels]) -> Iterator[Rows]:
        """The rows of each batch, in order; several are computed while the next is fetched."""
        return by_parts(self._answers, batches, self.options.batch, self.options.pixels)

    def _answers(self, batches: Iterable[Pixels]) -> Iterator[Rows]:
        # One more than are computed, so that none of them waits for its batch.
        model = self._model_of(self.streams)
        free = deque(model.create_infer_request() for _ in range(self.streams + 1))
        busy: deque[openvino.InferRequest] = deque()
        try:
            for batch in batches:
                request = free.popleft()
                with _told():
                    request.start_async([batch])
                busy.append(request)
                # What is done is handed on before another batch is asked for.
                while busy and (not free or busy[0].wait_for(0)):
                    yield self._finished(busy, free)
            while busy:
                yield self._finished(busy, free)
        finally:
            for request in busy:
                request.cancel()

    @staticmethod
    def _finished(busy: deque[openvino.InferRequest], free: deque[openvino.InferRequest]) -> Rows:
        request = busy.popleft()
        free.append(request)
        with _told():
            request.wait()
        return _rows(request)


def has_bf16() -> bool:
    """Whether this processor computes in bfloat16 itself."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _rows(request: openvino.InferRequest) -> Rows:
    """A copy of what a request has found, for it is used again."""
    return np.array(request.get_output_tensor(0).data, np.float32)


@contextmanager
def _told() -> Iterator[None]:
    """What OpenVINO cannot run, in one line."""
    try:
        yield
    except RuntimeError as error:
        raise InputError(f"OpenVINO cannot run the graph: {error}") from None

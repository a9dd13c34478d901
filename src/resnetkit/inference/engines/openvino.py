"""The OpenVINO engine: one request for single batches, several for a stream of batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import openvino

from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import Engine, EngineOptions, Pixels, Rows, available
from resnetkit.inference.engines.pipelining import by_parts, joined, parts


class OpenVINO(Engine):
    """An ONNX graph as bytes, or an ONNX or OpenVINO IR file, from pixels to one row per image.

    ``answer`` uses all threads for one batch; ``infer_batches`` splits them among ``streams``
    batches. The network is compiled on first use for each number of streams. ``threads`` is the
    total number of threads. ``bf16`` computes float32 graphs in bfloat16.

    Raises ``ValueError`` for a graph that OpenVINO cannot open, and for ``bf16`` on a CPU without
    it.
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
        #: Requests of `answer` that wait for their next batch: a new one delays the others.
        self._free: dict[int, deque[openvino.InferRequest]] = {}
        self._compiling = Lock()
        self._core = openvino.Core()
        # One stream or one per thread: which is faster depends on the caches.
        self.ways = tuple(sorted({1, options.threads or available()}))
        if bf16 and not has_bf16():
            raise InputError(
                "openvino-bf16 requires a CPU with bfloat16 (AVX-512 BF16 or AMX), which this one "
                "lacks; use openvino"
            )
        try:
            self._model = self._core.read_model(model if isinstance(model, bytes) else str(model))
        except RuntimeError as error:
            raise InputError(f"OpenVINO cannot open the graph: {error}") from None

    def _model_of(self, streams: int) -> openvino.CompiledModel:
        if streams not in self._compiled:
            # Without a precision hint, CPUs with bfloat16 would use it by default.
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
            self._free[streams] = deque()
        return self._compiled[streams]

    def answer(self, pixels: Pixels, *, shared: bool = False) -> Rows:
        """The rows of one batch ``(N, H, W, C)``."""
        with self._request(self.streams if shared else 1) as request:
            return self._answer(pixels, request)

    def outputs(self, pixels: Pixels) -> dict[str, Rows]:
        """All outputs of the graph for one batch, by name."""
        with self._request(1) as request:
            request.infer([pixels])
            found: dict[str, Rows] = {}
            for port in request.model_outputs:
                values = np.array(request.get_tensor(port).data, np.float32)
                found |= dict.fromkeys(port.names, values)  # equal values share a port
            return found

    @contextmanager
    def _request(self, streams: int) -> Iterator[openvino.InferRequest]:
        """A request that no other thread uses."""
        with self._compiling:
            model, free = self._model_of(streams), self._free[streams]
        with _told():
            try:
                request = free.pop()
            except IndexError:
                request = model.create_infer_request()
            try:
                yield request
            finally:
                free.append(request)

    def _answer(self, pixels: Pixels, request: openvino.InferRequest) -> Rows:
        rows = []
        for part in parts(pixels, self.options.batch, self.options.pixels):
            request.infer([part])
            rows.append(_rows(request))
        return joined(rows, len(pixels))

    def infer_batches(self, batches: Iterable[Pixels]) -> Iterator[Rows]:
        """The rows of each batch, in order; several are computed while the next is read."""
        return by_parts(self._answers, batches, self.options.batch, self.options.pixels)

    def _answers(self, batches: Iterable[Pixels]) -> Iterator[Rows]:
        # One more than the requests, so that none of them waits for its batch.
        model = self._model_of(self.streams)
        free = deque(model.create_infer_request() for _ in range(self.streams + 1))
        busy: deque[openvino.InferRequest] = deque()
        try:
            for batch in batches:
                request = free.popleft()
                with _told():
                    request.start_async([batch])
                busy.append(request)
                # Finished rows are yielded before another batch is read.
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
    """Whether this CPU supports bfloat16 natively."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _rows(request: openvino.InferRequest) -> Rows:
    """A copy of a request's output, because the request is reused."""
    return np.array(request.get_output_tensor(0).data, np.float32)


@contextmanager
def _told() -> Iterator[None]:
    """OpenVINO's runtime errors as one line."""
    try:
        yield
    except RuntimeError as error:
        raise InputError(f"OpenVINO cannot run the graph: {error}") from None

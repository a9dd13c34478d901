"""The ONNX Runtime engine, on the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnxruntime

from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import Engine, EngineOptions, Pixels, Rows
from resnetkit.inference.engines.pipelining import joined, overlapped, parts

#: Log only errors; warnings are about the machine.
_ERRORS = 3


class ONNXRuntime(Engine):
    """An ONNX graph, as bytes or a file, from pixels to one row per image."""

    name = "onnxruntime"
    version = onnxruntime.__version__

    def __init__(self, model: bytes | Path, options: EngineOptions) -> None:
        super().__init__(options)
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = _ERRORS
        settings.intra_op_num_threads = options.threads or 0
        # Spinning threads would slow down the threads that read images.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        given = model if isinstance(model, bytes) else str(model)
        try:
            self._session = onnxruntime.InferenceSession(
                given, settings, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's exceptions have no common base class
            raise InputError(f"ONNX Runtime cannot open the graph: {error}") from None
        self._input = self._session.get_inputs()[0].name

    def answer(self, pixels: Pixels, *, shared: bool = False) -> Rows:
        """The rows of one batch ``(N, H, W, C)``."""
        given = parts(pixels, self.options.batch, self.options.pixels)
        try:
            rows = [self._session.run(None, {self._input: part})[0] for part in given]
        except Exception as error:  # as above
            raise InputError(f"ONNX Runtime cannot run the graph: {error}") from None
        return joined(rows, len(pixels))

    def outputs(self, pixels: Pixels) -> dict[str, Rows]:
        """All outputs of the graph for one batch, by name."""
        names = [output.name for output in self._session.get_outputs()]
        try:
            found = self._session.run(names, {self._input: pixels})
        except Exception as error:  # as above
            raise InputError(f"ONNX Runtime cannot run the graph: {error}") from None
        return dict(zip(names, found, strict=True))

    def infer_batches(self, batches: Iterable[Pixels]) -> Iterator[Rows]:
        """The rows of each batch, in order, computed in another thread."""
        return overlapped(self.answer, batches)

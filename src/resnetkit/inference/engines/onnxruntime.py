"""The ONNX Runtime engine, on the processor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnxruntime

from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import Output, Pixels, PixelType, Rows
from resnetkit.inference.engines.pipelining import joined, overlapped, parts

#: Only errors are told; warnings are about the machine.
_ERRORS = 3


class ONNXRuntime:
    """An ONNX graph, as bytes or a file, that takes pixels and gives one row an image."""

    name = "onnxruntime"
    ways: tuple[int, ...] = (1,)
    streams = 1

    def __init__(
        self,
        model: bytes | Path,
        *,
        output: Output = "logits",
        precision: str = "fp32",
        threads: int | None = None,
        batch: int | None = None,
        cuts: bool = False,
        pixels: PixelType = "uint8",
    ) -> None:
        self.precision = precision
        self.cuts = cuts
        self.output: Output = output
        self.pixels: PixelType = pixels
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS
        options.intra_op_num_threads = threads or 0
        # Threads that wait by spinning take the processor from those that read images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        given = model if isinstance(model, bytes) else str(model)
        try:
            self._session = onnxruntime.InferenceSession(
                given, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's exceptions share no class of their own
            raise InputError(f"ONNX Runtime cannot open the graph: {error}") from None
        self._input = self._session.get_inputs()[0].name
        self._threads = threads
        self._batch = batch

    def answer(self, pixels: Pixels) -> Rows:
        """The rows of one batch ``(N, H, W, C)``."""
        given = parts(pixels, self._batch, self.pixels)
        try:
            rows = [self._session.run(None, {self._input: part})[0] for part in given]
        except Exception as error:  # as above
            raise InputError(f"ONNX Runtime cannot run the graph: {error}") from None
        return joined(rows, len(pixels))

    def answers(self, batches: Iterable[Pixels]) -> Iterator[Rows]:
        """The rows of each batch, in order, computed by a thread beside the caller's."""
        return overlapped(self.answer, batches)

    def to_dict(self) -> dict[str, Any]:
        """What it is, as JSON types."""
        return {
            "engine": self.name,
            "precision": self.precision,
            "pixels": self.pixels,
            "output": self.output,
            "version": onnxruntime.__version__,
            "device": "cpu",
            "threads": self._threads,
        }

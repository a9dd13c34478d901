"""Post-training int8 quantisation by NNCF, reverting sensitive layers to float32."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import rich

from resnetkit.errors import require
from resnetkit.exporters.agreement import NEAR
from resnetkit.inference.engines.engine import Pixels, Rows
from resnetkit.inference.engines.onnx_export import PIXELS

#: The quantised operations, with nearly all arithmetic, by OpenVINO's and ONNX's names.
_WEIGHTED = ("Convolution", "GroupConvolution", "MatMul", "Conv", "Gemm")
#: Operations that only move data.
_MOVING = ("Reshape", "Pad", "Transpose", "Squeeze", "Flatten")

#: Opens a model as a function from the pixels of one image to its row.
Run = Callable[[Pixels], Rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A criterion: ``least`` percent of the images must keep the share ``lead`` of their lead.

    An image's lead is the margin of its top class over the next in float32. 0 requires the same
    class, 1 the same numbers. Embeddings, which are not ``ranked``, may be ``1 - lead`` tenths of
    their length away.
    """

    least: float
    lead: float
    ranked: bool

    def met(self, before: Rows, after: Rows) -> bool:
        """Whether one image's int8 row meets the criterion for its float32 row."""
        before, after = before.ravel(), after.ravel()
        if not self.ranked:
            distance = np.linalg.norm(after - before)
            return bool(distance <= (1 - self.lead) * NEAR * np.linalg.norm(before))
        first = int(before.argmax())
        left = after[first] - np.delete(after, first).max(initial=-np.inf)
        if self.lead == 0:
            return bool(left >= 0)
        return bool(left >= self.lead * (before[first] - np.delete(before, first).max()))


def quantised_openvino(
    model: Any, images: Sequence[Pixels], bar: Bar | None
) -> tuple[Any, tuple[str, ...]]:
    """An ``openvino.Model`` in int8, calibrated with ``images``, inputs of the graph.

    With a ``bar``, NNCF ranks the layers by accuracy loss and reverts them to float32 one by one,
    until the images meet it. Returns the model, and the paths of the layers in float32.
    """
    import openvino

    def runner(model: Any) -> Run:
        if isinstance(model, openvino.Model):
            hints = {"INFERENCE_PRECISION_HINT": "f32"}
            model = openvino.Core().compile_model(model, "CPU", hints)
        return lambda pixels: np.asarray(model(pixels)[0])

    made = _quantised(model, list(images), images, bar, runner)
    layers = []
    for op in made.get_ordered_ops():
        if op.get_type_name() in _WEIGHTED:
            source = op.input_value(0).get_node()
            while source.get_type_name() in _MOVING:
                source = source.input_value(0).get_node()
            if source.get_type_name() != "FakeQuantize":
                layers.append(op.get_friendly_name().removesuffix("/WithoutBiases"))
    return made, tuple(layers)


def quantised_onnx(
    model: Any, images: Sequence[Pixels], bar: Bar | None
) -> tuple[Any, tuple[str, ...]]:
    """The same for an ``onnx.ModelProto``, with QuantizeLinear and DequantizeLinear."""
    import onnxruntime

    def runner(model: Any) -> Run:
        session = onnxruntime.InferenceSession(model.SerializeToString())
        return lambda pixels: np.asarray(session.run(None, {PIXELS: pixels})[0])

    made = _quantised(model, [{PIXELS: image} for image in images], images, bar, runner)
    sources = {name: node for node in made.graph.node for name in node.output}
    layers = []
    for node in made.graph.node:
        if node.op_type in _WEIGHTED:
            source = sources.get(node.input[0])
            while source is not None and source.op_type in _MOVING:
                source = sources.get(source.input[0])
            if source is None or source.op_type != "DequantizeLinear":
                layers.append(node.name)
    return made, tuple(layers)


def _quantised(
    model: Any,
    given: Sequence[Any],
    images: Sequence[Pixels],
    bar: Bar | None,
    runner: Callable[[Any], Run],
) -> Any:
    nncf = _nncf()
    data = nncf.Dataset(given)
    # Half of the weight range: CPUs without VNNI saturate sums over the full range, and a verified
    # file must give the same results on other CPUs.
    advanced = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
    with _quietly():
        if bar is None:
            return nncf.quantize(model, data, subset_size=len(given), advanced_parameters=advanced)
        last: list[tuple[Any, Run]] = []

        def run(model: Any) -> Run:
            # Called for one image after another of one model, which is opened once.
            if not last or last[0][0] is not model:
                last[:] = [(model, runner(model))]
            return last[0][1]

        before = [run(model)(image) for image in images]

        def agreement(model: Any, items: Iterable[tuple[int, Pixels]]) -> tuple[float, None]:
            met = [bar.met(before[number], run(model)(image)) for number, image in items]
            return float(np.mean(met)), None

        return nncf.quantize_with_accuracy_control(
            model,
            calibration_dataset=data,
            validation_dataset=nncf.Dataset(list(enumerate(images))),
            validation_fn=agreement,
            max_drop=1 - bar.least / 100,
            drop_type=nncf.DropType.ABSOLUTE,
            subset_size=len(given),
            advanced_quantization_parameters=advanced,
        )


def _nncf() -> Any:
    # It imports a module of torch that warns of a CUDA toolkit without a GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the versions of torch that it knows
        nncf = require("nncf", "int8")
    nncf.set_log_level(logging.ERROR)
    return nncf


@contextmanager
def _quietly() -> Iterator[None]:
    """Suppress NNCF's progress bars, which go to stdout or the notebook, and its dependencies'
    warnings."""
    console = rich.get_console()
    before = console.__dict__
    rich.reconfigure(file=io.StringIO(), force_jupyter=False)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        console.__dict__ = before

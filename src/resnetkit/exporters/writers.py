"""Writers for each kind of exported file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from resnetkit.bundle.bundle import Bundle
from resnetkit.checkpoints.writing import Tensors
from resnetkit.exporters.preprocessing_graph import cutting_model
from resnetkit.exporters.quantization import Bar, quantised_onnx, quantised_openvino
from resnetkit.exporters.web_graph import halved, with_cams
from resnetkit.inference.engines.conv_bn_fusion import Folded, folded, rounded
from resnetkit.inference.engines.engine import Pixels
from resnetkit.inference.engines.exported_model import DOCUMENT, Exported
from resnetkit.inference.engines.onnx_export import Float, onnx_model
from resnetkit.inference.engines.torch_export_archive import EXTRA

if TYPE_CHECKING:
    from onnx import ModelProto

_FLOATS: Mapping[str, Float] = {"fp32": "float32", "fp16": "float16", "int8": "float32"}


@dataclass(slots=True, kw_only=True)
class Written:
    """Writes the file that ``exported`` describes.

    For int8, ``images`` are the graph's calibration inputs, and layers are reverted to float32
    until the images meet the ``bar``; ``spared`` are those layers.
    """

    bundle: Bundle
    exported: Exported
    images: Sequence[Pixels] = ()
    bar: Bar | None = None
    spared: tuple[str, ...] = ()
    _folded: Folded | None = field(default=None, repr=False)

    @property
    def folded(self) -> Folded:
        """The network without norms."""
        if self._folded is None:
            self._folded = folded(self.bundle)
        return self._folded

    def graph(self, float_type: Float) -> bytes:
        """The ONNX graph in float32 or float16, with the document."""
        facts, metadata = self.exported, {DOCUMENT: self.exported.document()}
        if facts.cuts:
            return cutting_model(
                self.folded,
                facts.preprocess,
                output=facts.output,
                float_type=float_type,
                metadata=metadata,
            )
        return onnx_model(
            self.folded,
            output=facts.output,
            batch=facts.batch,
            float_type=float_type,
            metadata=metadata,
        )

    def onnx(self, path: Path) -> None:
        """``.onnx``, checked by ``onnx.checker``."""
        import onnx

        if self.exported.precision == "int8":
            model = self._onnx_model()
            onnx.checker.check_model(model, full_check=True)
            onnx.save(model, path)
            return
        path.write_bytes(self.graph(_FLOATS[self.exported.precision]))
        onnx.checker.check_model(str(path), full_check=True)

    def _onnx_model(self) -> ModelProto:
        """In int8, or in float32."""
        import onnx

        model = onnx.load_from_string(self.graph("float32"))
        if self.exported.precision == "int8":
            model, self.spared = quantised_onnx(model, self.images, self.bar)
            del model.metadata_props[:]
            model.metadata_props.add(key=DOCUMENT, value=self.exported.document())
        return model

    def web(self, path: Path) -> None:
        """``.onnx`` with class activation maps; float16 is stored, and computed in float32."""
        import onnx

        model = self._onnx_model()
        with_cams(model)
        if self.exported.precision == "fp16":
            halved(model)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)

    def openvino(self, path: Path) -> None:
        """``.xml`` and ``.bin``: OpenVINO's IR."""
        import openvino

        model = openvino.Core().read_model(self.graph("float32"))
        if self.exported.precision == "int8":
            model, self.spared = quantised_openvino(model, self.images, self.bar)
        model.set_rt_info(self.exported.document(), [DOCUMENT])
        # Weights are stored in half precision; OpenVINO chooses its own compute precision.
        try:
            openvino.save_model(model, path, compress_to_fp16=self.exported.precision == "fp16")
        except RuntimeError as error:
            reason = str(error).strip().rpartition("\n")[2]
            raise OSError(f"OpenVINO could not write it ({reason}); is the disk full?") from None

    def torch_export(self, path: Path) -> None:
        """``.pt2``: a ``torch.export`` program from uint8 pixels to float32 rows."""
        import torch

        from resnetkit.inference.engines.torch import WithNormalization

        facts, made = self.exported, self.folded
        if facts.precision == "fp16":
            halves = {name: rounded(values, "float16") for name, values in made.arrays.items()}
            made = replace(made, arrays=halves)
        module = WithNormalization(made, facts.output).eval().requires_grad_(False)
        size, channels = made.size, made.network.options.in_chans
        example = torch.zeros((facts.batch or 2, size, size, channels), dtype=torch.uint8)
        shapes = None if facts.batch else ({0: torch.export.Dim("N")},)
        program = torch.export.export(module, (example,), dynamic_shapes=shapes)
        # Via memory: if the disk is full, torch's own writer ends the process.
        data = io.BytesIO()
        torch.export.save(program, data, extra_files={EXTRA: facts.document()})
        path.write_bytes(data.getbuffer())

    def safetensors(self, path: Path) -> None:
        """A bundle in float32 or float16."""
        kind = _FLOATS[self.exported.precision]
        numbers = {
            name: values if values.dtype.kind in "iu" else rounded(values, kind)
            for name, values in self.bundle.numbers.items()
        }
        origin = {**self.bundle.origin, "exported_as": self.exported.precision}
        replace(self.bundle, arrays=Tensors(numbers), origin=origin).save(path)

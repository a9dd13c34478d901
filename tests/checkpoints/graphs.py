"""Graphs as exporters write them: torch's own, and the same respelled as others would."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from torch import nn

import resnetkit
from resnetkit.hub.weights import load
from running_statistics import draw_statistics

SMALL: dict[str, Any] = {
    **{"depths": (2, 1, 1), "widths": (8, 16, 24), "num_classes": 7, "stem_widths": (8,)},
}
#: Everything at once that a ResNet-50 may have besides.
RICH: dict[str, Any] = {
    **{**SMALL, "stem": "deep", "stem_widths": (4, 4, 8), "shortcut": "avgpool+projection"},
    **{"squeeze_excitation": 16, "groups": 2, "width_per_group": 32},
}


def network(**options: Any) -> resnetkit.nn.resnet.ResNet:
    """A small network whose norms and biases are not fresh, in evaluation mode."""
    torch.manual_seed(3)
    return settled(resnetkit.build("resnet50", **{**SMALL, **options}))


def settled(module: nn.Module) -> nn.Module:
    draw_statistics(module)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.rand_like(parameter) * 0.2)
    return module.eval()


def export(
    module: nn.Module, path: Path, *, fused: bool = False, size: int = 32, **choices: Any
) -> Path:
    """With torch's first exporter; norms stay as they are unless ``fused``."""
    mode = torch.onnx.TrainingMode
    weight = next(module.parameters())
    channels = weight.shape[1] if weight.ndim == 4 else 3
    image = torch.zeros(2, channels, size, size)
    given = {"dynamic_axes": {"x": [0, 2, 3]}, **choices}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (image,),
            str(path),
            dynamo=False,
            training=mode.EVAL if fused else mode.PRESERVE,
            do_constant_folding=fused,
            input_names=["x"],
            **given,
        )
    return path


def export_dynamo(module: nn.Module, path: Path, **choices: Any) -> Path:
    """With torch's second exporter, which fuses norms and keeps weights beside the graph."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.zeros(2, 3, 32, 32),), str(path), dynamo=True, **choices)
    return path


def difference(
    path: Path, *, size: int = 32, prepare: Callable = lambda x: x, **told: Any
) -> float:
    """How far the bundle of a graph is from the graph in ONNX Runtime, relative to the largest.

    An only logit may come close to 0; it is relative to what it is the sum of. ``prepare`` is what
    the graph does to the image before the network sees it.
    """
    bundle = load(path, **{**told})
    channels = bundle.network.options.in_chans
    images = torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(5))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    pixels = images.numpy()
    if given.shape[-1] == channels:
        pixels = pixels.transpose(0, 2, 3, 1)
    if given.type == "tensor(float16)":
        pixels = pixels.astype(np.float16)
    expected = session.run(None, {given.name: pixels})[0].reshape(2, -1)
    module = bundle.module().float()
    with torch.inference_mode():
        found = module(prepare(images)).reshape(2, -1).numpy()
        largest = np.abs(expected).max()
        if expected.shape[1] == 1:
            pooled = module.forward_features(prepare(images)).mean((2, 3))
            largest = float((pooled.abs() @ module.fc.weight.abs().T).max())
    return float(np.abs(found - expected).max() / largest)


class Respelling:
    """A model whose operations are replaced by others that do the same."""

    def __init__(self, path: Path) -> None:
        self.model = onnx.load(path)
        self.graph = self.model.graph
        self._count = 0

    def fresh(self) -> str:
        self._count += 1
        return f"new{self._count}"

    def constant(self, array: Any) -> str:
        name = self.fresh()
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def value(self, name: str) -> np.ndarray:
        for tensor in self.graph.initializer:
            if tensor.name == name:
                return numpy_helper.to_array(tensor)
        for node in self.graph.node:
            if name in node.output:
                assert node.op_type == "Identity"
                return self.value(node.input[0])
        raise KeyError(name)

    def chain(self, start: str, end: str, *steps: tuple[str, list[str], dict[str, Any]]) -> list:
        """Nodes one after the other, from the value ``start`` to the value ``end``."""
        nodes = []
        for number, (op, others, attributes) in enumerate(steps, start=1):
            output = end if number == len(steps) else self.fresh()
            nodes.append(helper.make_node(op, [start, *others], [output], **attributes))
            start = output
        return nodes

    def replace(self, op: str, change: Callable[[Respelling, onnx.NodeProto], list | None]) -> None:
        nodes = []
        for node in list(self.graph.node):
            made = change(self, node) if node.op_type == op else None
            nodes += [node] if made is None else made
        del self.graph.node[:]
        self.graph.node.extend(nodes)

    def save(self, path: Path) -> Path:
        onnx.checker.check_model(self.model)
        onnx.save(self.model, path)
        return path


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}

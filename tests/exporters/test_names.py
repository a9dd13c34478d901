"""Graphs are read by people: operations have the names of the layers they compute."""

from __future__ import annotations

from pathlib import Path

import onnx
import openvino
import pytest

import resnetkit
from resnetkit.architecture.layer import Norm

NETWORKS = ["resnet18", "resnet50d", "seresnet50", "ecaresnet26t", "resnetblur50", "resnet20"]


def named(path: Path) -> set[str]:
    if path.suffix == ".onnx":
        return {node.name for node in onnx.load(path).graph.node}
    return {node.get_friendly_name() for node in openvino.Core().read_model(path).get_ops()}


@pytest.mark.parametrize("file", ["net.onnx", "net.xml"])
@pytest.mark.parametrize("name", NETWORKS)
def test_operations_have_the_names_of_layers(name: str, file: str, tmp_path: Path) -> None:
    stages = len(resnetkit.network(name).stages) - 1
    module = resnetkit.build(name, num_classes=3, depths=(2,) + (1,) * (stages - 1))
    bundle = resnetkit.Bundle.from_module(
        module, classes=("a", "b", "c"), preprocess=resnetkit.Preprocess(size=32)
    )
    target = tmp_path / file
    resnetkit.export(bundle, target, to="onnx" if file == "net.onnx" else "openvino")
    found = named(target)
    layers = {located.path: located.layer for located in module.network.layers()}
    # Norms are folded into the convolution before them.
    assert {path for path, layer in layers.items() if not isinstance(layer, Norm)} <= found
    if file == "net.onnx":
        parts = ("input.", *(f"{path}." for path in layers))
        assert all(node.startswith(parts) for node in found - {*layers, "logits"})

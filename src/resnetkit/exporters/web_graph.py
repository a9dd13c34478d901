"""Prepares an ONNX graph for a browser: class activation maps, and weights in half the space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from resnetkit.inference.engines.conv_bn_fusion import rounded

if TYPE_CHECKING:
    import onnx

#: The output with a map for each class, ``(1, classes, H, W)``.
CAMS = "cams"
#: Nodes between the pool and the classifier that only reshape or quantise.
_PASSING = ("Flatten", "Reshape", "QuantizeLinear", "DequantizeLinear")
#: Smaller arrays stay as they are.
_LEAST = 1024


def with_cams(model: onnx.ModelProto) -> bool:
    """Add the output ``cams``: the classifier's weights applied to each position of the last map,
    before the average pool (Zhou et al. 2016, "Learning deep features for discriminative
    localization"). The mean of a class's map is its logit without the bias.

    False for a network whose classifier does not follow a global average pool; it has no such maps.
    """
    import onnx

    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    classifiers = [node for node in graph.node if node.op_type == "Gemm"]
    if not classifiers:
        return False
    classifier = classifiers[-1]
    before = makers.get(classifier.input[0])
    while before is not None and before.op_type in _PASSING:
        before = makers.get(before.input[0])
    if before is None or before.op_type != "GlobalAveragePool":
        return False
    helper = onnx.helper
    graph.initializer.append(helper.make_tensor("cams.axes", onnx.TensorProto.INT64, [2], [2, 3]))
    graph.node.extend(
        [
            helper.make_node("Unsqueeze", [classifier.input[1], "cams.axes"], ["cams.weight"]),
            helper.make_node("Conv", [before.input[0], "cams.weight"], [CAMS], name=CAMS),
        ]
    )
    graph.output.append(
        helper.make_tensor_value_info(CAMS, onnx.TensorProto.FLOAT, [1, None, None, None])
    )
    return True


def halved(model: onnx.ModelProto) -> None:
    """Store large float32 arrays as float16, and convert them when the graph is opened.

    All arithmetic stays in float32: browsers run convolutions in float16 slowly, or not at all.
    """
    import onnx

    graph = model.graph
    casts = []
    for array in graph.initializer:
        if array.data_type != onnx.TensorProto.FLOAT or np.prod(array.dims) < _LEAST:
            continue
        name = array.name
        values = rounded(onnx.numpy_helper.to_array(array), "float16")
        array.CopyFrom(onnx.numpy_helper.from_array(values, f"{name}.half"))
        casts.append(
            onnx.helper.make_node(
                "Cast", [array.name], [name], name=name, to=onnx.TensorProto.FLOAT
            )
        )
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])

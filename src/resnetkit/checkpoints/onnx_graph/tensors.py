"""The tensors of a network from the units of its graph, each computed on access.

Weights are unchanged. Folded operations are mapped to layers of our network: a scale and an
addition become a norm with mean 0 and variance ``1 - epsilon``, computed in float64 if necessary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from resnetkit.architecture.layer import Shape
from resnetkit.architecture.parameters import places, tensors
from resnetkit.checkpoints.onnx_graph.network_options import MatchedNetwork, before_norm
from resnetkit.checkpoints.onnx_graph.nodes import Tensor
from resnetkit.checkpoints.onnx_graph.operations import Op, refuse
from resnetkit.checkpoints.onnx_graph.structure import Unit

if TYPE_CHECKING:
    from resnetkit.checkpoints.dialect import Array


def tensors_of(found: MatchedNetwork) -> dict[str, Tensor]:
    """All tensors of the network except the norms' counters, which graphs lack."""
    wanted = tensors(found.network)
    epsilon = found.network.options.norm_epsilon
    made: dict[str, Tensor] = {}
    conv = ""
    for path, place in places(found.network).items():
        if place.kind == "norm":
            biased = f"{conv}.bias" in wanted
            norm = _norm(found.units[conv], epsilon, biased)
            made |= {f"{path}.{name}": tensor for name, tensor in norm.items()}
            continue
        unit = found.units[path]
        normed = found.network.options.norm == "batch" and place.part not in ("gate", "head")
        made[f"{path}.weight"] = unit.layer.tensors["weight"]
        made[f"{path}.bias"] = _bias(unit) if normed else _offset(unit)
        conv = path
    return {name: _shaped(made[name], shape) for name, shape in wanted.items() if name in made}


def _shaped(tensor: Tensor, shape: Shape) -> Tensor:
    """A linear layer of a gate as a convolution; scalars are expanded to all channels."""
    if tensor.shape == shape:
        return tensor

    def change(array: Array) -> Array:
        return spread(array, shape[0]) if array.size == 1 else array.reshape(shape)

    return tensor.map(shape, change)


def spread(array: Any, channels: int) -> Array:
    """One number per channel, from a scalar or a vector."""
    import numpy as np

    return np.broadcast_to(np.reshape(array, -1), (channels,)).copy()


def _computed(unit: Unit, work: Callable[[], Any]) -> Tensor:
    """Numbers per channel, computed in float64 and stored in the weights' dtype."""
    weight = unit.layer.tensors["weight"]

    def read() -> Array:
        import numpy as np

        with np.errstate(all="ignore"):
            return np.broadcast_to(work(), weight.shape[:1]).astype(weight.dtype)

    return Tensor(shape=weight.shape[:1], dtype=weight.dtype, read=read)


def _wide(tensor: Tensor | None) -> Any:
    return 0.0 if tensor is None else tensor.read().astype("float64")


def line(changes: Sequence[Op], scale: Any = 1.0, offset: Any = 0.0) -> tuple[Any, Any]:
    """``scale * x + offset`` after successive changes and norms, in float64."""
    for op in changes:
        if op.kind == "norm":
            weight, bias, mean, variance = map(_wide, op.tensors.values())
            factor = weight / (variance + op.epsilon) ** 0.5
            scale, offset = scale * factor, (offset - mean) * factor + bias
            continue
        by = _wide(op.tensors["by"])
        if op.does in ("Add", "Sub"):
            offset = offset + (by if op.does == "Add" else -by)
        else:
            factor = by if op.does == "Mul" else 1 / by
            scale, offset = scale * factor, offset * factor
    return scale, offset


def _bias(unit: Unit) -> Tensor:
    """The bias of a convolution before its norm."""
    bias, added = unit.layer.tensors.get("bias"), before_norm(unit)
    if not added:
        return bias or _computed(unit, lambda: 0.0)
    if bias is None and added[0].does == "Add":
        return added[0].tensors["by"]
    return _computed(unit, lambda: line(added, 1.0, _wide(bias))[1])


def _offset(unit: Unit) -> Tensor:
    """The total bias without a norm."""
    bias = unit.layer.tensors.get("bias")
    for op in unit.rest:
        if op.does not in ("Add", "Sub"):
            raise refuse(op.text, "scales a layer that has no norm")
    if not unit.rest:
        return bias or _computed(unit, lambda: 0.0)
    if bias is None and [op.does for op in unit.rest] == ["Add"]:
        return unit.rest[0].tensors["by"]
    return _computed(unit, lambda: line(unit.rest, 1.0, _wide(bias))[1])


def _norm(unit: Unit, epsilon: float, biased: bool) -> dict[str, Tensor]:
    """The tensors of the norm after ``unit``, whose convolution keeps its bias if ``biased``."""
    norms = [op for op in unit.rest if op.kind == "norm"]
    if not norms:
        return _made_norm(unit, epsilon, biased)
    norm, before = norms[0], before_norm(unit)
    after = unit.rest[len(before) + 1 :]
    if len(norms) > 1 or unit.rest[len(before)] is not norm:
        raise refuse(norms[-1].text, "is a second norm, or comes after more than an addition")
    found = dict(norm.tensors)
    if norm.epsilon != epsilon:
        variance, more = norm.tensors["running_var"], norm.epsilon - epsilon
        found["running_var"] = _computed(unit, lambda: _wide(variance) + more)
    if after:
        weight, bias = norm.tensors["weight"], norm.tensors["bias"]
        found["weight"] = _computed(unit, lambda: line(after, _wide(weight), _wide(bias))[0])
        found["bias"] = _computed(unit, lambda: line(after, _wide(weight), _wide(bias))[1])
    return found


def _made_norm(unit: Unit, epsilon: float, biased: bool) -> dict[str, Tensor]:
    """A norm from its remains: a subtracted mean, a scale, an addition, or only a bias."""
    bias = None if biased else unit.layer.tensors.get("bias")
    rest, mean = unit.rest, _computed(unit, lambda: 0.0)
    if rest and rest[0].does == "Sub" and bias is None:
        mean, rest = rest[0].tensors["by"], rest[1:]
    weight = _computed(unit, lambda: line(rest, 1.0, _wide(bias))[0])
    offset = _computed(unit, lambda: line(rest, 1.0, _wide(bias))[1])
    by = [op.tensors["by"] for op in rest]
    if bias is None and [op.does for op in rest] == ["Mul", "Add"]:
        weight, offset = by
    elif bias is not None and not rest:
        offset = bias
    return {
        "weight": weight,
        "bias": offset,
        "running_mean": mean,
        "running_var": _computed(unit, lambda: 1 - epsilon),
    }

"""Fuses batch norms and input normalization into convolutions.

The result is the same network without norms, whose convolutions have biases, and one subtraction:
the mean must be subtracted before the first convolution pads with zeros. No torch is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from resnetkit.architecture.layer import Conv, Norm
from resnetkit.architecture.network import Network
from resnetkit.errors import NO_CLASSES, InputError
from resnetkit.preprocess import Preprocess

Array = npt.NDArray[Any]


class HasWeights(Protocol):
    """The source of an engine, e.g. a bundle. ``numbers`` are its tensors as numpy arrays."""

    @property
    def network(self) -> Network: ...
    @property
    def preprocess(self) -> Preprocess: ...
    @property
    def numbers(self) -> Mapping[str, Array]: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Folded:
    """A network for uint8 pixels in RGB or grey, minus ``mean``.

    ``arrays`` are float32, by the names of ``network``, which has no batch norms, unless some are
    unfused: then fused ones have no arrays, and pass their input on. ``mean`` is float32 ``(C,)``,
    on the scale of the pixels. ``size`` is the side of the images.
    """

    network: Network
    arrays: Mapping[str, Array]
    mean: Array
    size: int


def folded(what: HasWeights, *, unfused: Collection[str] | None = None) -> Folded:
    """Fold the network of ``what`` for an engine; see ``Folded``.

    ``(x / divisor - mean) / std`` in the network's channel order is folded into the first
    convolution, and batch norms into the convolutions before them; group norms stay. Factors are
    computed in float64, and each of the two products is rounded to float32.

    ``unfused`` are paths of convolutions that keep their norms, so that their own outputs can be
    taken; the network then has all of its norms. None fuses all.
    """
    network, preprocess = what.network, what.preprocess
    numbers = {
        name: np.asarray(values, dtype=np.float32)
        for name, values in what.numbers.items()
        if not name.endswith(".num_batches_tracked")
    }
    made = _without_norms(network, numbers, unfused or ())
    first = next(located.path for located in network.layers())
    mean = np.asarray(preprocess.mean, np.float64) * preprocess.divisor
    scale = 1 / (np.asarray(preprocess.std, np.float64) * preprocess.divisor)
    weight = _scaled(made[f"{first}.weight"], scale[None, :, None, None])
    if preprocess.channels == "BGR":
        weight, mean = weight[:, ::-1], mean[::-1]
    made[f"{first}.weight"] = np.ascontiguousarray(weight, np.float32)
    return Folded(
        network=folded_network(network) if unfused is None else network,
        arrays={name: np.ascontiguousarray(values, np.float32) for name, values in made.items()},
        mean=np.ascontiguousarray(mean, np.float32),
        size=preprocess.size,
    )


def rounded(values: Array, dtype: str) -> Array:
    """Cast the weights; in float16 values above 65,504 become infinite."""
    with np.errstate(over="ignore"):
        return values.astype(dtype, copy=False)


def check_output(network: Network, output: str) -> None:
    """Raise ``InputError`` for logits of a network without a classifier."""
    if output == "logits" and network.options.num_classes is None:
        raise InputError(f"{network.name} {NO_CLASSES}")


def folded_network(network: Network) -> Network:
    """``network`` with batch norms replaced by biases."""
    if network.options.norm != "batch":
        return network
    return network.override(norm="none", conv_bias=True)


def _without_norms(
    network: Network, numbers: Mapping[str, Array], unfused: Collection[str]
) -> dict[str, Array]:
    if network.options.norm != "batch":
        return dict(numbers)
    made = dict(numbers)
    layers = {located.path: located for located in network.layers()}
    for norm in layers.values():
        if not isinstance(norm.layer, Norm) or norm.inputs[0] in unfused:
            continue
        conv = layers[norm.inputs[0]]
        assert isinstance(conv.layer, Conv)
        weight, bias, mean, variance = (
            made.pop(f"{norm.path}.{name}").astype(np.float64)
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / np.sqrt(variance + norm.layer.epsilon)
        offset = made[f"{conv.path}.bias"] if conv.layer.bias else 0.0
        made[f"{conv.path}.bias"] = bias + (offset - mean) * scale
        made[f"{conv.path}.weight"] = _scaled(
            made[f"{conv.path}.weight"], scale[:, None, None, None]
        )
    return made


def _scaled(weight: Array, scale: Array) -> Array:
    """Float32 times float64, rounded to float32 in chunks, without a float64 copy."""
    return np.multiply(weight, scale, out=np.empty(weight.shape, np.float32), casting="same_kind")

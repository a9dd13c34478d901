"""Identity norms, for frameworks that do not support networks without norms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from resnetkit.architecture.network import Network
from resnetkit.architecture.parameters import places, tensors
from resnetkit.checkpoints.dialect import Dialect

if TYPE_CHECKING:
    from resnetkit.checkpoints.dialect import Array


def with_norms(network: Network, dialect: Dialect) -> Network:
    """``network`` with the norms of ``dialect`` if it has none; otherwise unchanged.

    Convolutions keep their bias only if the framework always has one.
    """
    if network.options.norm != "none" or dialect.cannot(network.options) is None:
        return network
    keeps = False not in dialect.holds.get("conv_bias", (False,))
    free = {
        name: dialect.holds[name][0]
        for name in ("norm_epsilon", "norm_momentum")
        if name in dialect.holds
    }
    return network.override(norm="batch", conv_bias=keeps, **free)


def given_norms(normed: Network, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The tensors of ``normed`` from those of the network without norms.

    A norm has mean 0, weight 1 and variance ``1 - epsilon``, so that it divides by 1; biases move
    from the convolution to its norm.
    """
    import numpy as np

    wanted = tensors(normed)
    made: dict[str, Array] = {}
    conv = ""
    for path, place in places(normed).items():
        if place.kind != "norm":
            made |= {name: arrays[name] for name in (f"{path}.weight", f"{path}.bias")
                     if name in wanted}  # fmt: skip
            conv = path
            continue
        bias = arrays[f"{conv}.bias"]
        made[f"{path}.weight"] = np.ones_like(bias)
        made[f"{path}.bias"] = np.zeros_like(bias) if f"{conv}.bias" in wanted else bias
        made[f"{path}.running_mean"] = np.zeros_like(bias)
        made[f"{path}.running_var"] = np.full_like(bias, 1 - normed.options.norm_epsilon)
        made[f"{path}.num_batches_tracked"] = np.zeros((), dtype=np.int64)
    return {name: made[name] for name in wanted}

"""resnetkit's own names: torchvision's, extended to every supported network.

A deep stem is ``conv1`` to ``conv3`` at the top; a shortcut with a pool has the pool at
``downsample.0`` and only then the projection at ``.1``.
"""

from __future__ import annotations

from resnetkit.architecture.parameters import Place
from resnetkit.checkpoints.dialect import UNUSUAL, Dialect
from resnetkit.checkpoints.facts import (
    anti_alias,
    dilation_entry,
    epsilon,
    head_pool,
    norm_groups,
    output_stride,
    small_stem_pool,
    small_stem_stride,
    stem_pool,
    stride_on,
)

_CODE = "resnetkit/architecture/block.py"
_SMALL = (
    "not documented: what most networks for 32x32 images do; a torchvision network whose conv1 was "
)
_SMALL += "replaced may have kept its pool and stride"


def path(place: Place) -> str:
    """The path of the torch submodule."""
    norm = place.kind == "norm"
    layer = f"{'bn' if norm else 'conv'}{place.number}"
    if place.part == "stem":
        return layer
    if place.part == "shortcut":
        layer = f"downsample.{place.pooled + norm}"
    if place.part == "gate":
        layer = "se.conv" if place.efficient else f"se.fc{place.number}"
    return f"layer{place.stage}.{place.block}.{layer}"


DIALECTS = (
    Dialect(
        name="resnetkit",
        about="every network of resnetkit, by the paths of its layers",
        source=_CODE,
        path=path,
        holds={**UNUSUAL, "stem_conv_stride": (1, 2)},
        facts=(
            stride_on("3x3", "resnetkit's default"),
            epsilon("resnetkit's default"),
            norm_groups("resnetkit's default"),
            stem_pool("resnetkit's default"),
            small_stem_pool(_SMALL),
            small_stem_stride(_SMALL),
            anti_alias("resnetkit's default"),
            head_pool("resnetkit's default"),
            output_stride("resnetkit's default"),
            dilation_entry("previous", "resnetkit's default"),
        ),
    ),
)

"""torchvision: the names that most projects copied, for the networks that torchvision has.

Source: torchvision/models/resnet.py. ``layer1.0.downsample.0`` is the projection, ``.1`` its norm.
"""

from __future__ import annotations

from resnetkit.architecture.options import Options
from resnetkit.checkpoints.description import Place
from resnetkit.checkpoints.dialect import Choice, Dialect
from resnetkit.checkpoints.fact import (
    anti_alias,
    dilation_entry,
    epsilon,
    head_pool,
    output_stride,
    stem_pool,
    stride_on,
)
from resnetkit.preprocess import Preprocess

_CODE = "torchvision/models/resnet.py"


def path(place: Place) -> str:
    """``conv1``, ``bn1``, ``layer1.0.conv1``, ``layer1.0.bn1``, ``layer1.0.downsample.0``."""
    layer = f"{'conv' if place.kind == 'conv' else 'bn'}{place.number}"
    if place.part == "stem":
        return layer
    if place.part == "shortcut":
        layer = f"downsample.{0 if place.kind == 'conv' else 1}"
    return f"layer{place.stage}.{place.block}.{layer}"


def _has_one_version(options: Options) -> bool:
    """Of these networks torchvision publishes one version of weights; of the others, two."""
    return "basic" in options.stage_blocks or options.groups == 64


DIALECTS = (
    Dialect(
        name="torchvision",
        about="torchvision's ResNet, ResNeXt and Wide ResNet",
        source=_CODE,
        path=path,
        holds={
            "stem": ("7x7",),
            "stem_widths": ((64,),),
            "stem_padding": (3,),
            "stem_pool": ("padded",),
            "stride_on": ("3x3",),
            "shortcut": ("projection",),
            "squeeze_excitation": (None,),
            "conv_bias": (False,),
            "dilation_entry": ("previous",),
            "head_pool": ("global",),
            "rounding": ("floor",),
        },
        facts=(
            stride_on("3x3", f"{_CODE}: stride on conv2; weights of v1 borrow the names"),
            epsilon(f"{_CODE}: torch's default"),
            stem_pool(_CODE),
            anti_alias(f"{_CODE} has none; timm writes the same names with aa_layer"),
            head_pool(f"{_CODE}: AdaptiveAvgPool2d(1)"),
            output_stride(f"{_CODE}: replace_stride_with_dilation"),
            dilation_entry("previous", f"{_CODE}: previous_dilation"),
        ),
        preprocess=(
            Choice(
                label="IMAGENET1K_V2",
                preprocess=Preprocess(size=224, resize_to=232),
                source="torchvision ResNet50_Weights.IMAGENET1K_V2: 232, 224, bilinear",
                applies=lambda options: not _has_one_version(options),
            ),
            Choice(
                label="IMAGENET1K_V1",
                preprocess=Preprocess(size=224, resize_to=232),
                source="torchvision ResNeXt101_64X4D_Weights.IMAGENET1K_V1: 232, 224, bilinear",
                applies=lambda options: options.groups == 64,
            ),
            Choice(
                label="IMAGENET1K_V1",
                preprocess=Preprocess(size=224, resize_to=256),
                source="torchvision ResNet18_Weights.IMAGENET1K_V1 and its namesakes: 256, 224, "
                "bilinear",
                applies=lambda options: options.groups != 64,
            ),
        ),
    ),
)

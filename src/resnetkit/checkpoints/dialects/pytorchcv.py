"""pytorchcv (osmr/imgclsmob): units in stages, each convolution in a ConvBlock with its norm.

Source: pytorchcv/models/{resnet,resnext,seresnet,resnet_cifar}.py. ResNet-50 has its stride on the
1x1, ResNet-50b on the 3x3; ResNeXt always on the 3x3.
"""

from __future__ import annotations

from resnetkit.architecture.options import Options
from resnetkit.architecture.parameters import Place
from resnetkit.checkpoints.dialect import Dialect, DialectPreprocess
from resnetkit.checkpoints.facts import (
    dilation_entry,
    epsilon,
    head_pool,
    output_stride,
    stem_pool,
    stride_on,
)
from resnetkit.preprocess import Preprocess

_CODE = "pytorchcv/models/resnet.py"


def path(place: Place) -> str:
    """``features.init_block.conv.conv``, ``features.stage1.unit1.body.conv1.bn``, ``.se.conv1``."""
    layer = "conv" if place.kind == "conv" else "bn"
    if place.part == "stem":
        block = {"7x7": ".conv", "3x3": "", "deep": f".conv{place.number}"}[place.stem]
        return f"features.init_block{block}.{layer}"
    unit = f"features.stage{place.stage}.unit{place.block + 1}"
    if place.part == "gate":
        return f"{unit}.se.conv{place.number}"
    inner = "identity_conv" if place.part == "shortcut" else f"body.conv{place.number}"
    return f"{unit}.{inner}.{layer}"


def _stride_on(options: Options) -> str:
    """ResNeXt's blocks only have this variant."""
    return "3x3" if options.groups > 1 else "1x1"


DIALECTS = (
    Dialect(
        name="pytorchcv",
        about="pytorchcv's ResNet, ResNeXt, SE-ResNet and CIFAR ResNets",
        source=_CODE,
        path=path,
        heads=("output",),
        holds={
            "stem_padding": (1, 3),
            "stem_pool": ("padded", "none"),
            "shortcut": ("projection",),
            "conv_bias": (False,),
            "rounding": ("floor",),
        },
        facts=(
            stride_on("1x1", f"{_CODE}: conv1_stride=True; resnet50b has 3x3", _stride_on),
            epsilon(f"{_CODE}: 1e-5"),
            stem_pool(_CODE),
            head_pool(f"{_CODE}: AvgPool2d(7), the same as global at 224x224"),
            output_stride("pytorchcv/models/resnetd.py dilates to 8"),
            dilation_entry("own", "pytorchcv/models/resnetd.py"),
        ),
        preprocess=(
            DialectPreprocess(
                label="imgclsmob",
                preprocess=Preprocess(size=224, resize_to=256),
                source="imgclsmob's evaluation: 224 / 0.875, bilinear",
            ),
        ),
    ),
)

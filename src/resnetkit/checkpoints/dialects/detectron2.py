"""detectron2: frozen norms, stages named res2 to res5, the head beside the body.

Source: detectron2/modeling/backbone/resnet.py; the deep stem is projects/DeepLab's. Each
convolution has its norm as a submodule. A FrozenBatchNorm2d has no batch counter; files converted
from Caffe2 have only its weight and bias. Feature pyramids and heads are leftovers.
"""

from __future__ import annotations

from resnetkit.architecture.parameters import Place
from resnetkit.checkpoints.dialect import RGB_255, Dialect, DialectPreprocess
from resnetkit.checkpoints.facts import (
    dilation_entry,
    epsilon,
    head_pool,
    output_stride,
    stem_pool,
    stride_on,
)
from resnetkit.preprocess import Preprocess

_CODE = "detectron2/modeling/backbone/resnet.py"


def path(place: Place) -> str:
    """``stem.conv1``, ``res2.0.conv1``, ``res2.0.conv1.norm``, ``res2.0.shortcut``."""
    layer = "shortcut" if place.part == "shortcut" else f"conv{place.number}"
    where = "stem" if place.part == "stem" else f"res{place.stage + 1}.{place.block}"
    return f"{where}.{layer}{'.norm' if place.kind == 'norm' else ''}"


DIALECTS = (
    Dialect(
        name="detectron2",
        about="detectron2's ResNet backbones, and the classifiers they come from",
        source=_CODE,
        path=path,
        heads=("linear",),
        absent=("num_batches_tracked",),
        unfolds=True,
        holds={
            "stem": ("7x7", "deep"),
            "stem_padding": (1, 3),
            "stem_pool": ("padded",),
            "shortcut": ("projection",),
            "squeeze_excitation": (None,),
            "conv_bias": (False,),
            "head_pool": ("global",),
            "rounding": ("floor",),
        },
        facts=(
            stride_on("1x1", "MODEL.RESNETS.STRIDE_IN_1X1, true by default (MSRA weights)"),
            epsilon("FrozenBatchNorm2d: eps 1e-5"),
            stem_pool(f"{_CODE}: BasicStem"),
            head_pool(f"{_CODE}: AdaptiveAvgPool2d(1)"),
            output_stride("MODEL.RESNETS.RES5_DILATION, 1 by default"),
            dilation_entry("own", f"{_CODE}: every 3x3 of res5"),
        ),
        preprocess=(
            DialectPreprocess(
                label="MSRA",
                preprocess=Preprocess(
                    size=224,
                    resize_to=256,
                    channels="BGR",
                    divisor=1.0,
                    mean=(103.53, 116.28, 123.675),
                    std=(1.0, 1.0, 1.0),
                ),
                source="detectron2/config/defaults.py; sizes as usual for ImageNet",
            ),
            DialectPreprocess(
                label="converted from torchvision",
                preprocess=Preprocess(size=224, resize_to=256, **RGB_255),
                source="detectron2 tools/convert-torchvision-to-d2.py, with STRIDE_IN_1X1 False",
            ),
        ),
    ),
)

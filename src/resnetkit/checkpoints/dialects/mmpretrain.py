"""OpenMMLab: mmpretrain's ResNet, ResNetV1c, ResNetV1d and SEResNet, and mmseg's V1c and V1d.

Source: mmpretrain/models/backbones/{resnet,seresnet}.py, mmseg/models/backbones/resnet.py. Both
have the body below ``backbone.``. A deep stem is ``stem.0.conv``, ``stem.0.bn`` in mmpretrain and
``stem.0``, ``stem.1``, ``stem.3`` ... in mmseg. A shortcut of V1d has its projection at
``downsample.1`` only if it has a pool, so not in stage 1. ``style='caffe'`` moves the stride
without changing names.
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

_CODE = "mmpretrain/models/backbones/resnet.py"
_MMSEG = "mmseg configs/_base_/models/*_r50-d8.py"
#: Parts of OpenMMLab's networks outside the backbone.
_BESIDE = r"(head\.fc|neck|decode_head|auxiliary_head|roi_head|bbox_head|rpn_head|mask_head)\."


def path(place: Place) -> str:
    """``conv1``, ``stem.0.conv``, ``layer1.0.conv1``, ``layer1.0.downsample.0``."""
    norm = place.kind == "norm"
    layer = f"{'bn' if norm else 'conv'}{place.number}"
    if place.part == "stem":
        if place.stem != "deep":
            return layer
        return f"stem.{place.number - 1}.{'bn' if norm else 'conv'}"
    if place.part == "shortcut":
        layer = f"downsample.{place.pooled + norm}"
    if place.part == "gate":
        layer = f"se_layer.conv{place.number}.conv"
    return f"layer{place.stage}.{place.block}.{layer}"


def path_in_mmseg(place: Place) -> str:
    """The stem is a Sequential in which ReLUs are numbered too."""
    if place.part != "stem" or place.stem != "deep":
        return path(place)
    return f"stem.{3 * (place.number - 1) + (place.kind == 'norm')}"


_HOLDS = {
    "stem": ("7x7", "deep"),
    "stem_padding": (1, 3),
    "stem_pool": ("padded",),
    "shortcut": ("projection", "avgpool+projection"),
    "conv_bias": (False,),
    "head_pool": ("global",),
    "rounding": ("floor",),
}
_PREPROCESS = (
    DialectPreprocess(
        label="imagenet_bs32",
        preprocess=Preprocess(size=224, resize_to=256, **RGB_255),
        source="mmpretrain configs/_base_/datasets/imagenet_bs32.py; OpenCV's bilinear",
    ),
    DialectPreprocess(
        label="caffe",
        preprocess=Preprocess(
            size=224,
            resize_to=256,
            channels="BGR",
            divisor=1.0,
            mean=(103.53, 116.28, 123.675),
            std=(1.0, 1.0, 1.0),
        ),
        source="OpenMMLab detection configs with style='caffe' and MSRA weights",
    ),
)

DIALECTS = (
    Dialect(
        name="mmpretrain",
        beside_root=_BESIDE,
        about="OpenMMLab's ResNet, V1c, V1d, ResNeXt and SE-ResNet",
        source=_CODE,
        path=path,
        root="backbone.",
        heads=("head.fc",),
        holds=_HOLDS,
        facts=(
            stride_on("3x3", f"{_CODE}: style='pytorch'; style='caffe' is 1x1"),
            epsilon(f"{_CODE}: torch's default"),
            stem_pool(_CODE),
            head_pool("mmpretrain GlobalAveragePooling"),
            output_stride(f"{_CODE}: strides and dilations"),
            dilation_entry("own", f"{_CODE}: ResLayer gives each block the dilation"),
        ),
        preprocess=_PREPROCESS,
    ),
    Dialect(
        name="mmseg-7x7",
        about="the ResNet with a 7x7 stem of OpenMMLab's segmentation",
        source="mmseg/models/backbones/resnet.py",
        path=path,
        root="backbone.",
        evidence=("decode_head.conv_seg.weight",),
        holds={**_HOLDS, "stem": ("7x7",), "num_classes": (None,)},
        facts=(
            stride_on("3x3", "mmseg/models/backbones/resnet.py: style='pytorch'"),
            epsilon("torch's default"),
            stem_pool("mmseg/models/backbones/resnet.py"),
            head_pool("mmpretrain GlobalAveragePooling"),
            output_stride(
                f"not documented by names: {_MMSEG} dilate to 8, UPerNet does not", 8, 16, 32
            ),
            dilation_entry("previous", f"{_MMSEG}: contract_dilation=True"),
        ),
        preprocess=_PREPROCESS,
    ),
    Dialect(
        name="mmseg",
        beside_root=_BESIDE,
        about="the ResNetV1c and V1d of OpenMMLab's segmentation",
        source="mmseg/models/backbones/resnet.py",
        path=path_in_mmseg,
        root="backbone.",
        heads=("head.fc",),
        holds={**_HOLDS, "stem": ("deep",)},
        facts=(
            stride_on("3x3", "mmseg/models/backbones/resnet.py: style='pytorch'"),
            epsilon("torch's default"),
            stem_pool("mmseg/models/backbones/resnet.py"),
            head_pool("mmpretrain GlobalAveragePooling"),
            output_stride(f"{_MMSEG}: dilations 1, 1, 2, 4", 8, 16, 32),
            dilation_entry("previous", f"{_MMSEG}: contract_dilation=True"),
        ),
        preprocess=_PREPROCESS,
    ),
)

"""torchvision: names copied by most projects, for the networks that torchvision has.

Source: torchvision/models/resnet.py. ``layer1.0.downsample.0`` is the projection, ``.1`` its norm.
"""

from __future__ import annotations

from collections.abc import Callable

from resnetkit.architecture.options import Options
from resnetkit.architecture.parameters import Place
from resnetkit.checkpoints.dialect import Dialect, DialectPreprocess, torchvision_path
from resnetkit.checkpoints.facts import (
    anti_alias,
    dilation_entry,
    epsilon,
    head_pool,
    output_stride,
    small_stem_pool,
    small_stem_stride,
    stem_pool,
    stride_on,
)
from resnetkit.preprocess import Preprocess

_CODE = "torchvision/models/resnet.py"
_SEGMENTATION = "torchvision/models/segmentation: replace_stride_with_dilation"


def _has_one_version(options: Options) -> bool:
    """Whether torchvision publishes only one version of the network's weights, not two."""
    return "basic" in options.stage_blocks or options.groups == 64


def path_of_children(stages_from: int) -> Callable[[Place], str]:
    """``0``, ``1``, ``4.0.conv1``: the places in ``nn.Sequential(*resnet.children())``.

    ReLU and pool are numbered too, so ``stages_from`` is 4 with a pool.
    """

    def path_by_number(place: Place) -> str:
        if place.part == "stem":
            return "0" if place.kind == "conv" else "1"
        block = torchvision_path(place).partition(".")[2]
        return f"{place.stage - 1 + stages_from}.{block}"

    return path_by_number


_HOLDS = {
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
}
#: Used for more than torchvision's own networks, as the parts are reassembled.
_REBUILT = {**_HOLDS, "stem": ("7x7", "3x3"), "stem_padding": (1, 3), "stem_conv_stride": (1, 2)}
_NOT_TOLD = "not documented: most that replace conv1 by a 3x3 remove its stride"
_FACTS = (
    stride_on("3x3", f"{_CODE}: stride on conv2; weights of v1 borrow the names"),
    epsilon(f"{_CODE}: torch's default"),
    stem_pool(_CODE),
    anti_alias(f"{_CODE} has none; timm writes the same names with aa_layer"),
    head_pool(f"{_CODE}: AdaptiveAvgPool2d(1)"),
    output_stride(f"{_CODE}: replace_stride_with_dilation"),
    dilation_entry("previous", f"{_CODE}: previous_dilation"),
)
_PREPROCESS = (
    DialectPreprocess(
        label="IMAGENET1K_V2",
        preprocess=Preprocess(size=224, resize_to=232),
        source="torchvision ResNet50_Weights.IMAGENET1K_V2: 232, 224, bilinear",
        applies=lambda options: not _has_one_version(options),
    ),
    DialectPreprocess(
        label="IMAGENET1K_V1",
        preprocess=Preprocess(size=224, resize_to=232),
        source="torchvision ResNeXt101_64X4D_Weights.IMAGENET1K_V1: 232, 224, bilinear",
        applies=lambda options: options.groups == 64,
    ),
    DialectPreprocess(
        label="IMAGENET1K_V1",
        preprocess=Preprocess(size=224, resize_to=256),
        source="torchvision ResNet18_Weights.IMAGENET1K_V1 and its namesakes: 256, 224, bilinear",
        applies=lambda options: options.groups != 64,
    ),
)
_BORROWED = tuple(fact for fact in _FACTS if fact.option not in ("stem_pool", "output_stride"))

DIALECTS = (
    Dialect(
        name="torchvision-segmentation",
        about="the body of torchvision's DeepLabV3 and FCN",
        source="torchvision/models/segmentation/deeplabv3.py, fcn.py",
        path=torchvision_path,
        root="backbone.",
        evidence=("classifier.4.weight",),
        holds={**_HOLDS, "num_classes": (None,)},
        facts=(
            *_BORROWED,
            stem_pool(_CODE),
            output_stride(f"{_SEGMENTATION}: [False, True, True]", 8, 16, 32),
        ),
        preprocess=(
            DialectPreprocess(
                label="segmentation",
                preprocess=Preprocess(size=520),
                source="torchvision DeepLabV3_ResNet50_Weights: resize to 520, bilinear",
            ),
        ),
    ),
    Dialect(
        name="torchvision",
        about="torchvision's ResNet, ResNeXt and Wide ResNet",
        source=_CODE,
        path=torchvision_path,
        holds=_HOLDS,
        facts=_FACTS,
        preprocess=_PREPROCESS,
    ),
    Dialect(
        name="torchvision-children",
        about="torchvision's ResNet as nn.Sequential(*resnet.children()), fastai's body",
        source=f"{_CODE}: the order of the modules",
        path=path_of_children(4),
        read_only=True,
        heads=("10", "9"),
        holds={**_REBUILT, "stem_pool": ("padded", "none")},
        facts=(
            *_BORROWED,
            stem_pool(_CODE),
            small_stem_pool("not documented: the pool or an Identity in its place"),
            small_stem_stride(_NOT_TOLD),
            output_stride(f"{_CODE}: replace_stride_with_dilation"),
        ),
        preprocess=_PREPROCESS,
    ),
    Dialect(
        name="torchvision-children-unpooled",
        about="torchvision's ResNet as an nn.Sequential of its children without the max-pool",
        source=f"{_CODE}: the order of the modules, one less",
        path=path_of_children(3),
        read_only=True,
        heads=("9", "8"),
        holds={**_REBUILT, "stem_pool": ("none",)},
        fixed={"stem_pool": "none"},
        facts=(
            *_BORROWED,
            small_stem_stride(_NOT_TOLD),
            output_stride(f"{_CODE}: replace_stride_with_dilation"),
        ),
    ),
)

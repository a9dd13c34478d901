"""segmentation_models_pytorch: the encoders of DeepLabV3, DeepLabV3+ and PAN, which are dilated.

Source: segmentation_models_pytorch encoders/resnet.py and decoders/{deeplabv3,pan}/model.py. Names
are torchvision's below ``encoder.``; ``make_dilated`` dilates every convolution of a dilated stage.
Other networks of the library are not dilated and are read as torchvision's.
"""

from __future__ import annotations

from resnetkit.checkpoints.dialect import Dialect, DialectPreprocess, torchvision_path
from resnetkit.checkpoints.facts import (
    dilation_entry,
    epsilon,
    head_pool,
    output_stride,
    stem_pool,
    stride_on,
)
from resnetkit.preprocess import Preprocess

_CODE = "segmentation_models_pytorch encoders/_utils.py"
_PREPROCESS = (
    DialectPreprocess(
        label="imagenet",
        preprocess=Preprocess(size=224),
        source="segmentation_models_pytorch encoders: mean and deviation; crops as they come",
    ),
)


def _dilated(name: str, about: str, evidence: tuple[str, ...], *strides: int) -> Dialect:
    return Dialect(
        name=name,
        about=about,
        source="segmentation_models_pytorch decoders",
        path=torchvision_path,
        root="encoder.",
        evidence=evidence,
        holds={
            "stem": ("7x7",),
            "stem_padding": (3,),
            "stem_pool": ("padded",),
            "stride_on": ("3x3",),
            "shortcut": ("projection",),
            "squeeze_excitation": (None,),
            "conv_bias": (False,),
            "num_classes": (None,),
            "head_pool": ("global",),
            "rounding": ("floor",),
        },
        facts=(
            stride_on("3x3", "torchvision/models/resnet.py"),
            epsilon("torch's default"),
            stem_pool("torchvision/models/resnet.py"),
            head_pool("not a part of it"),
            output_stride(f"{name}: encoder_output_stride", *strides),
            dilation_entry("all", f"{_CODE}: replace_strides_with_dilation"),
        ),
        preprocess=_PREPROCESS,
    )


DIALECTS = (
    _dilated(
        "smp-deeplabv3plus",
        "the encoder of smp's DeepLabV3Plus",
        ("decoder.aspp.0.convs.0.0.weight",),
        *(16, 8, 32),
    ),
    _dilated(
        "smp-pan",
        "the encoder of smp's PAN",
        ("decoder.fpa.branch1.1.conv.weight",),
        *(16, 32),
    ),
    _dilated(
        "smp-deeplabv3",
        "the encoder of smp's DeepLabV3",
        ("decoder.aspp.convs.0.0.weight", "decoder.0.convs.0.0.weight"),
        *(8, 16, 32),
    ),
)

"""semseg (hszhao): ResNets with a deep stem, alone and inside PSPNet.

Source: model/resnet.py and model/pspnet.py. Alone the stem is ``conv1`` to ``conv3`` at the top;
PSPNet keeps it in a Sequential ``layer0``, and has ``ppm``, ``cls`` and ``aux`` besides, which are
not part of the backbone and are leftovers.
"""

from __future__ import annotations

from resnetkit.architecture.parameters import Place
from resnetkit.checkpoints.dialect import RGB_255, Dialect, DialectPreprocess, torchvision_path
from resnetkit.checkpoints.facts import (
    dilation_entry,
    epsilon,
    head_pool,
    output_stride,
    stem_pool,
    stride_on,
)
from resnetkit.preprocess import Preprocess

_CODE = "semseg model/resnet.py"


def path_in_pspnet(place: Place) -> str:
    """The stem is ``layer0.0``, ``.1``, ``.3``, ``.4``, ``.6``, ``.7``: ReLUs are numbered too."""
    if place.part != "stem":
        return torchvision_path(place)
    return f"layer0.{3 * (place.number - 1) + (place.kind == 'norm')}"


_HOLDS = {
    "block": ("bottleneck", "basic"),
    "stem": ("deep",),
    "stem_widths": ((64, 64, 128),),
    "stem_padding": (1,),
    "stem_pool": ("padded",),
    "stride_on": ("3x3",),
    "groups": (1,),
    "shortcut": ("projection",),
    "squeeze_excitation": (None,),
    "conv_bias": (False,),
    "rounding": ("floor",),
}
_PREPROCESS = (
    DialectPreprocess(
        label="crops of 473",
        preprocess=Preprocess(size=473, **RGB_255),
        source="semseg tool/train.py, tool/test.py: sliding crops, OpenCV's bilinear",
    ),
)

DIALECTS = (
    Dialect(
        name="semseg",
        about="semseg's ResNet with a deep stem (64,64,128)",
        source=_CODE,
        path=torchvision_path,
        holds=_HOLDS,
        facts=(
            stride_on("3x3", _CODE),
            epsilon(f"{_CODE}: torch's default"),
            stem_pool(_CODE),
            head_pool(f"{_CODE}: AvgPool2d(7, stride=1)", "7x7", "global"),
            output_stride("semseg model/pspnet.py dilates to 8; the classifier does not"),
            dilation_entry("own", "semseg model/pspnet.py: every 3x3 of layer3 and layer4"),
        ),
        preprocess=_PREPROCESS,
    ),
    Dialect(
        name="semseg-pspnet",
        about="the backbone of semseg's PSPNet",
        source="semseg model/pspnet.py",
        path=path_in_pspnet,
        holds={**_HOLDS, "num_classes": (None,)},
        facts=(
            stride_on("3x3", _CODE),
            epsilon(f"{_CODE}: torch's default"),
            stem_pool(_CODE),
            head_pool(f"{_CODE}; PSPNet has no such pool", "7x7", "global"),
            output_stride("semseg model/pspnet.py: dilation 2 and 4", 8, 16, 32),
            dilation_entry("own", "semseg model/pspnet.py: every 3x3 of layer3 and layer4"),
        ),
        preprocess=_PREPROCESS,
    ),
)

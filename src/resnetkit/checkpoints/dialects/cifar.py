"""pytorch-cifar (kuangliu) and similar: torchvision's names with ``shortcut`` for ``downsample``.

Source: kuangliu/pytorch-cifar models/resnet.py, akamaster/pytorch_resnet_cifar10 resnet.py. The
classifier is ``linear``. akamaster's shortcuts of option A have no tensors.
"""

from __future__ import annotations

from resnetkit.architecture.options import Options
from resnetkit.architecture.parameters import Place
from resnetkit.checkpoints.dialect import Dialect, DialectPreprocess, torchvision_path
from resnetkit.checkpoints.facts import (
    epsilon,
    head_pool,
    output_stride,
    small_stem_pool,
    small_stem_stride,
    stem_pool,
    stride_on,
)
from resnetkit.preprocess import Preprocess

_CODE = "pytorch-cifar models/resnet.py"


def path(place: Place) -> str:
    """``conv1``, ``bn1``, ``layer1.0.conv1``, ``layer2.0.shortcut.0``."""
    return torchvision_path(place).replace("downsample", "shortcut")


def _is_small(options: Options) -> bool:
    return options.stem == "3x3"


DIALECTS = (
    Dialect(
        name="pytorch-cifar",
        about="pytorch-cifar's ResNet and others with torchvision's names and `shortcut`",
        source=_CODE,
        path=path,
        heads=("linear", "fc"),
        holds={
            "stem": ("7x7", "3x3"),
            "stem_padding": (1, 3),
            "stem_conv_stride": (1, 2),
            "shortcut": ("projection", "pad"),
            "squeeze_excitation": (None,),
            "conv_bias": (False,),
            "dilation_entry": ("previous",),
            "head_pool": ("global",),
            "rounding": ("floor",),
        },
        facts=(
            stride_on("3x3", f"{_CODE}: stride on conv2"),
            epsilon(f"{_CODE}: torch's default"),
            small_stem_stride(f"{_CODE}: stride 1"),
            small_stem_pool(f"{_CODE} has none"),
            stem_pool("torchvision's; pytorch-cifar has no 7x7"),
            head_pool(f"{_CODE}: avg_pool2d(4), the same as global at 32x32"),
            output_stride(f"{_CODE} dilates no stage"),
        ),
        preprocess=(
            DialectPreprocess(
                label="CIFAR-10",
                preprocess=Preprocess(
                    size=32, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010)
                ),
                source="pytorch-cifar main.py: 32x32, mean and deviation of CIFAR-10",
                applies=_is_small,
            ),
        ),
    ),
)

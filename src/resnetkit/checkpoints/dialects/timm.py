"""timm: deep stems in one Sequential, average pools in shortcuts, squeeze-excitation.

Source: timm/models/resnet.py. The last norm of a deep stem is ``bn1``. Shortcuts of ResNet-D have
the pool, or an Identity, at ``downsample.0`` in every stage, so that the projection is ``.1``.
"""

from __future__ import annotations

from resnetkit.checkpoints.description import Place
from resnetkit.checkpoints.dialect import (
    Choice,
    Dialect,
    dilation_entry,
    epsilon,
    head_pool,
    output_stride,
    stem_pool,
    stride_on,
)
from resnetkit.preprocess import Preprocess

_CODE = "timm/models/resnet.py"


def path(place: Place) -> str:
    """``conv1`` or ``conv1.0``; ``layer1.0.conv1``, ``.se.fc1``, ``.downsample.1``."""
    norm = place.kind == "norm"
    layer = f"{'bn' if norm else 'conv'}{place.number}"
    if place.part == "stem":
        if place.stem != "deep":
            return layer
        return "bn1" if norm and place.number == 3 else f"conv1.{3 * (place.number - 1) + norm}"
    if place.part == "shortcut":
        layer = f"downsample.{place.averaged + norm}"
    if place.part == "gate":
        layer = f"se.fc{place.number}"
    return f"layer{place.stage}.{place.block}.{layer}"


def _choice(label: str, size: int, resize_to: int) -> Choice:
    return Choice(
        label=label,
        preprocess=Preprocess(size=size, resize_to=resize_to, interpolation="bicubic"),
        source=f"timm's pretrained_cfg of {label}: resize to floor(size / crop_pct), bicubic",
    )


DIALECTS = (
    Dialect(
        name="timm",
        about="timm's ResNet, -C, -D, -S, -T, ResNeXt and SE-ResNet",
        source=_CODE,
        path=path,
        holds={
            "stem": ("7x7", "deep"),
            "stem_padding": (1, 3),
            "stem_pool": ("padded",),
            "stride_on": ("3x3",),
            "shortcut": ("projection", "avgpool+projection"),
            "conv_bias": (False,),
            "dilation_entry": ("previous",),
            "head_pool": ("global",),
            "rounding": ("floor",),
        },
        facts=(
            stride_on("3x3", f"{_CODE}: stride on conv2"),
            epsilon(f"{_CODE}: torch's default"),
            stem_pool(_CODE),
            head_pool(f"{_CODE}: global_pool='avg'"),
            output_stride(f"{_CODE}: output_stride"),
            dilation_entry("previous", f"{_CODE}: first_dilation"),
        ),
        preprocess=(
            _choice("resnet50.a1_in1k", 224, 235),
            _choice("resnet50.a1h_in1k", 176, 195),
            _choice("resnet50.a3_in1k", 160, 168),
            _choice("resnet50c.gluon_in1k", 224, 256),
            _choice("resnet26t.ra2_in1k", 256, 272),
        ),
    ),
)

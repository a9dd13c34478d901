"""Hugging Face transformers: ResNetForImageClassification, ResNetModel and ResNetBackbone.

Source: models/resnet/modeling_resnet.py. The classifier has the body below ``resnet.``, the other
two have it at the top. ``downsample_in_bottleneck`` in ``config.json`` moves the stride.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnetkit.architecture.option_fields import EXPANSION
from resnetkit.architecture.parameters import Place
from resnetkit.checkpoints.dialect import Dialect, DialectPreprocess
from resnetkit.checkpoints.facts import epsilon, head_pool, stem_pool, stride_on
from resnetkit.errors import InputError
from resnetkit.preprocess import Preprocess

_CODE = "transformers models/resnet/modeling_resnet.py"


def path(place: Place) -> str:
    """``encoder.stages.0.layers.0.layer.0.convolution``: all numbers start at 0."""
    layer = "convolution" if place.kind == "conv" else "normalization"
    if place.part == "stem":
        return f"embedder.embedder.{layer}"
    block = f"encoder.stages.{place.stage - 1}.layers.{place.block}"
    if place.part == "shortcut":
        return f"{block}.shortcut.{layer}"
    return f"{block}.layer.{place.number - 1}.{layer}"


def configured(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a ``config.json``. Raises ``InputError`` if it is not a ResNet's.

    Defaults are those of ``ResNetConfig``; ``hidden_sizes`` are the outputs of the stages. Options
    outside the configuration are fixed in the code of this model type.
    """
    if "model_type" not in config and "architecture" in config:
        return {}  # timm's
    if config.get("model_type", "resnet") != "resnet":
        raise InputError(f"the configuration is of {config['model_type']!r}; give a ResNet's")
    if config.get("downsample_in_first_stage") or config.get("hidden_act", "relu") != "relu":
        raise InputError(
            "the configuration has downsample_in_first_stage or an activation that is not relu; "
            "neither is supported"
        )
    block = config.get("layer_type", "bottleneck")
    outputs = config.get("hidden_sizes", [256, 512, 1024, 2048])
    found: dict[str, Any] = {
        "block": block,
        "depths": tuple(config.get("depths", (3, 4, 6, 3))),
        "widths": tuple(size // EXPANSION.get(block, 1) for size in outputs),
        "stem_widths": (config.get("embedding_size", 64),),
        "in_chans": config.get("num_channels", 3),
        "norm_epsilon": 1e-5,
        "stem_pool": "padded",
        "head_pool": "global",
    }
    if block == "bottleneck":
        found["stride_on"] = "1x1" if config.get("downsample_in_bottleneck") else "3x3"
    return found


DIALECTS = (
    Dialect(
        name="transformers",
        about="ResNet of Hugging Face transformers",
        source=_CODE,
        path=path,
        root="resnet.",
        heads=("classifier.1",),
        holds={
            "stem": ("7x7",),
            "stem_padding": (3,),
            "stem_pool": ("padded",),
            "shortcut": ("projection",),
            "groups": (1,),
            "width_per_group": (64,),
            "squeeze_excitation": (None,),
            "conv_bias": (False,),
            "head_pool": ("global",),
            "rounding": ("floor",),
        },
        facts=(
            stride_on("3x3", "config.json: downsample_in_bottleneck, false by default"),
            epsilon(f"{_CODE}: torch's default"),
            stem_pool(_CODE),
            head_pool(f"{_CODE}: AdaptiveAvgPool2d(1)"),
        ),
        preprocess=(
            DialectPreprocess(
                label="microsoft/resnet-50",
                preprocess=Preprocess(
                    size=224, resize_to=256, interpolation="bicubic", centre="floor"
                ),
                source="preprocessor_config.json of microsoft/resnet-50: size 224, crop_pct 0.875",
            ),
            DialectPreprocess(
                label="class defaults",
                preprocess=Preprocess(
                    size=384,
                    resize="squash",
                    interpolation="bicubic",
                    mean=(0.5, 0.5, 0.5),
                    std=(0.5, 0.5, 0.5),
                ),
                source="ConvNextImageProcessor without preprocessor_config.json",
            ),
        ),
        configured=configured,
    ),
)

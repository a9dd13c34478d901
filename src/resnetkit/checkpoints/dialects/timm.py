"""timm: deep stems in one Sequential, average pools in shortcuts, two kinds of gates.

Source: timm/models/resnet.py. The last norm of a deep stem is ``bn1``. Shortcuts of ResNet-D have
the pool, or an Identity, at ``downsample.0`` in every stage, so that the projection is ``.1``. A
convolution in place of the stem's pool is ``maxpool.0``. Pools and blurs against aliasing have no
tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnetkit.architecture import registry
from resnetkit.architecture.parameters import Place
from resnetkit.checkpoints import timm_weights
from resnetkit.checkpoints.dialect import UNUSUAL, Dialect, DialectPreprocess
from resnetkit.checkpoints.facts import (
    anti_alias,
    dilation_entry,
    epsilon,
    head_pool,
    norm_groups,
    output_stride,
    stem_pool,
    stride_on,
)
from resnetkit.errors import InputError
from resnetkit.preprocess import Preprocess

_CODE = "timm/models/resnet.py"
#: Arguments of a timm model that do not change the network's body.
_HARMLESS = {"in_chans", "num_classes", "global_pool", "output_stride", "drop_rate"}
_HARMLESS |= {"drop_path_rate", "drop_block_rate", "zero_init_last"}


def path(place: Place) -> str:
    """``conv1``, ``conv1.0``, ``maxpool.0``; ``layer1.0.conv1``, ``.se.fc1``, ``.downsample.1``."""
    norm = place.kind == "norm"
    layer = f"{'bn' if norm else 'conv'}{place.number}"
    if place.part == "stem":
        last = 3 if place.stem == "deep" else 1
        if place.number > last:
            return f"maxpool.{int(norm)}"
        if place.stem != "deep":
            return layer
        return "bn1" if norm and place.number == last else f"conv1.{3 * (place.number - 1) + norm}"
    if place.part == "shortcut":
        layer = f"downsample.{place.averaged + norm}"
    if place.part == "gate":
        layer = "se.conv" if place.efficient else f"se.fc{place.number}"
    return f"layer{place.stage}.{place.block}.{layer}"


def configured(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the architecture named in timm's ``config.json``.

    For architectures outside the catalogue, or with other arguments, only the head's pool is known.
    Raises ``InputError`` for a pool other than average and an activation other than ReLU, which no
    tensor shows.
    """
    name, arguments = config.get("architecture"), config.get("model_args") or {}
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return {}
    pool = arguments.get("global_pool", config.get("global_pool", "avg"))
    if pool not in ("avg", "fast", "", None):
        raise InputError(f"the configuration has global_pool {pool!r}; only avg is supported")
    activation = arguments.get("act_layer")
    if activation not in ("relu", "", None):
        raise InputError(f"the configuration has act_layer {activation!r}; only relu is supported")
    found: dict[str, Any] = {"head_pool": "global"}
    entry = next((entry for entry in registry.catalog() if entry.name == name), None)
    if entry is None or set(arguments) - _HARMLESS:
        return found
    options = entry.network().options
    stated = "depths block blocks widths reduce_first conv_widths stem stem_widths stem_pool "
    stated += "shortcut shortcut_kernel anti_alias efficient_attention norm norm_groups "
    stated += "norm_epsilon dilation_entry"
    found |= {option: getattr(options, option) for option in stated.split()}
    if "basic" not in options.stage_blocks:
        bottleneck = ("groups", "width_per_group", "stride_on")
        found |= {option: getattr(options, option) for option in bottleneck}
    if options.squeeze_excitation is None:
        found["squeeze_excitation"] = None
    return {**found, "output_stride": arguments.get("output_stride", options.natural_stride)}


def _choice(label: str, size: int, resize_to: int, *, published: bool) -> DialectPreprocess:
    """That of published weights, for their network; or also for networks without any."""
    network = label.partition(".")[0] if published else None
    return DialectPreprocess(
        label=label,
        preprocess=Preprocess(size=size, resize_to=resize_to, interpolation="bicubic"),
        source=f"timm's pretrained_cfg of {label}: resize to floor(size / crop_pct), bicubic",
        applies=lambda options: timm_weights.network_of(options) == network,
    )


DIALECTS = (
    Dialect(
        name="timm",
        about="timm's ResNet, -C, -D, -S, -T, ResNeXt, SE-, ECA- and ResNet-RS",
        source=_CODE,
        path=path,
        holds={
            **UNUSUAL,
            "norm": ("batch", "group"),
            "stem": ("7x7", "deep"),
            "stem_padding": (1, 3),
            "stem_pool": ("padded", "conv"),
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
            norm_groups("timm/layers/norm.py: GroupNorm of 32 groups"),
            stem_pool(_CODE),
            anti_alias(f"{_CODE}: aa_layer, none by default"),
            head_pool(f"{_CODE}: global_pool='avg'"),
            output_stride(f"{_CODE}: output_stride"),
            dilation_entry("previous", f"{_CODE}: first_dilation"),
        ),
        preprocess=(
            *(_choice(*one, published=True) for one in timm_weights.published()),
            _choice("resnet50.a1_in1k", 224, 235, published=False),
            _choice("resnet50.a1h_in1k", 176, 195, published=False),
            _choice("resnet50.a3_in1k", 160, 168, published=False),
            _choice("resnet50c.gluon_in1k", 224, 256, published=False),
            _choice("resnet26t.ra2_in1k", 256, 272, published=False),
        ),
        configured=configured,
    ),
)

"""Small networks to look into, with weights that matter, and what torch's hooks see in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

import resnetkit
from photographs import photograph
from resnetkit.data.decoding.tensors import to_input

SMALL = {"depths": (2, 1, 1, 1), "widths": (8, 16, 32, 64), "num_classes": 7}
#: A network for each kind of layer, and the side of its input.
KINDS: dict[str, tuple[str, dict[str, Any], int]] = {
    "basic": ("resnet18", SMALL, 64),
    "bottleneck": ("resnet50", SMALL, 64),
    "deep stem": ("resnet50", {**SMALL, "stem": "deep", "shortcut": "avgpool+projection"}, 64),
    "squeeze-excitation": ("resnet18", {**SMALL, "squeeze_excitation": 4}, 64),
    "efficient attention": ("resnet18", {**SMALL, "efficient_attention": True}, 64),
    "group norm": ("resnet18", {**SMALL, "norm": "group", "norm_groups": 4}, 64),
    "no norm": ("resnet18", {**SMALL, "norm": "none", "conv_bias": True}, 64),
    "blur": ("resnet50", {**SMALL, "anti_alias": "blur"}, 64),
    "dilated": ("resnet18", {**SMALL, "output_stride": 8}, 64),
    "rounded up": ("resnet50", {**SMALL, "stem_pool": "caffe", "rounding": "ceil"}, 67),
    "cifar": ("resnet20", {"depths": (1, 1, 1)}, 32),
    "no classifier": ("resnet18", {**SMALL, "num_classes": None}, 64),
    "grey": ("resnet18", {**SMALL, "in_chans": 1}, 64),
}


def photo() -> np.ndarray:
    """uint8 ``(H, W, 3)``, wider than high."""
    return photograph("coffee")[::4, ::4]


def bundle_of(kind: str, **facts: Any) -> resnetkit.Bundle:
    """A bundle of that kind, with norms that change what passes through them."""
    name, options, size = KINDS[kind]
    torch.manual_seed(0)
    module = resnetkit.build(name, **options)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.uniform_(layer.weight, 0.5, 1)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 2)
    grey = {"channels": "L", "mean": (0.4,), "std": (0.3,)} if kind == "grey" else {}
    given = {"resize_to": size + 8, **grey, **facts}
    preprocess = resnetkit.Preprocess(size=size, **given)
    return resnetkit.Bundle.from_module(module, preprocess=preprocess)


def plain_module(bundle: resnetkit.Bundle) -> nn.Module:
    """The module, without operations in place, which other libraries' hooks do not expect."""
    module = bundle.module()
    for layer in module.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    return module


def input_of(bundle: resnetkit.Bundle, image: Any) -> torch.Tensor:
    return to_input(image, bundle.preprocess)[None]


@torch.inference_mode()
def hooked(bundle: resnetkit.Bundle, image: Any) -> dict[str, tuple[np.ndarray, ...]]:
    """Of every torch submodule, by name: its inputs, then its output, for one image."""
    found: dict[str, tuple[np.ndarray, ...]] = {}
    module = bundle.module()
    before: dict[str, tuple[np.ndarray, ...]] = {}

    def arrays(values: Any) -> tuple[np.ndarray, ...]:
        return tuple(one[0].clone().numpy() for one in values)

    def watch(name: str, part: nn.Module) -> None:
        # Copies: the next layers write in place.
        part.register_forward_pre_hook(lambda _m, given: before.update({name: arrays(given)}))
        part.register_forward_hook(
            lambda _m, _g, output: found.update({name: (*before[name], *arrays([output]))})
        )

    for name, part in module.named_modules():
        if name:
            watch(name, part)
    found[""] = (module(input_of(bundle, image))[0].flatten().numpy(),)
    return found


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, as a share of the largest value."""
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())

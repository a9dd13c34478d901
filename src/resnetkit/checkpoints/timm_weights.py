"""timm's published weights by their preprocessing: of each network, one for each size.

Source: ``pretrained_cfg`` of timm 1.0: the size, and floor(size / crop_pct), bicubic. Those with
another interpolation, mean or number of classes are left out; the config.json beside a file has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from functools import cache

from resnetkit.architecture import registry
from resnetkit.architecture.options import Options

#: Weights by the size of the crop, and the side to which images are resized before.
_WEIGHTS = {
    (224, 235): (
        "resnet18.a1_in1k resnet34.a1_in1k resnet50.a1_in1k resnet101.a1h_in1k "
        "resnet152.a1h_in1k resnet50d.a1_in1k resnext50_32x4d.a1h_in1k "
        "resnext101_64x4d.c1_in1k seresnet50.a1_in1k seresnext101_32x8d.ah_in1k "
        "seresnext101d_32x8d.ah_in1k ecaresnet50t.a1_in1k resnetaa50.a1h_in1k "
        "resnetaa50d.sw_in12k_ft_in1k resnetaa101d.sw_in12k_ft_in1k "
        "seresnextaa101d_32x8d.ah_in1k"
    ),
    (224, 238): "resnet50_gn.a1h_in1k",
    (224, 256): (
        "resnet18.gluon_in1k resnet34.bt_in1k resnet26.bt_in1k resnet50.am_in1k "
        "resnet101.gluon_in1k resnet152.gluon_in1k resnet50c.gluon_in1k resnet101c.gluon_in1k "
        "resnet152c.gluon_in1k resnet18d.ra2_in1k resnet26d.bt_in1k resnet34d.ra2_in1k "
        "resnet50d.ra2_in1k resnet101d.gluon_in1k resnet152d.gluon_in1k resnet50s.gluon_in1k "
        "resnet101s.gluon_in1k resnet152s.gluon_in1k wide_resnet50_2.racm_in1k "
        "resnext50_32x4d.gluon_in1k resnext101_32x4d.gluon_in1k resnext101_64x4d.gluon_in1k "
        "resnext50d_32x4d.bt_in1k seresnet50.ra2_in1k seresnext26d_32x4d.bt_in1k "
        "seresnext26t_32x4d.bt_in1k seresnext50_32x4d.racm_in1k seresnext101_32x4d.gluon_in1k "
        "seresnext101_64x4d.gluon_in1k ecaresnet50d.miil_in1k ecaresnet101d.miil_in1k "
        "ecaresnet50d_pruned.miil_in1k ecaresnet101d_pruned.miil_in1k "
        "ecaresnetlight.miil_in1k resnetblur50.bt_in1k seresnextaa101d_32x8d.sw_in12k_ft_in1k "
        "senet154.gluon_in1k"
    ),
    (384, 384): "seresnextaa201d_32x8d.sw_in12k_ft_in1k_384",
    (320, 320): "resnetrs420.tf_in1k",
    (320, 336): "ecaresnet269d.ra2_in1k",
    (288, 288): "resnetrs350.tf_in1k",
    (288, 303): "seresnextaa101d_32x8d.sw_in12k_ft_in1k_288",
    (256, 256): "resnetrs152.tf_in1k resnetrs200.tf_in1k resnetrs270.tf_in1k",
    (256, 269): "resnet101d.ra2_in1k resnet152d.ra2_in1k resnet200d.ra2_in1k seresnet152d.ra2_in1k",
    (256, 272): "resnet26t.ra2_in1k",
    (256, 292): "ecaresnet26t.ra2_in1k ecaresnet50t.ra2_in1k",
    (192, 204): "resnetrs101.tf_in1k",
    (176, 195): "resnet50.a1h_in1k",
    (176, 201): "resnet10t.c3_in1k resnet14t.c3_in1k",
    (160, 168): (
        "resnet18.a3_in1k resnet34.a3_in1k resnet50.a3_in1k resnet101.a3_in1k "
        "resnet152.a3_in1k resnet50d.a3_in1k resnext50_32x4d.a3_in1k seresnet50.a3_in1k "
        "ecaresnet50t.a3_in1k"
    ),
    (160, 175): "resnetrs50.tf_in1k",
}
#: Options that no tensor shows, or that a new classifier changes.
_OPEN = {
    *("num_classes", "in_chans", "output_stride", "dilation_entry", "norm_epsilon"),
    *("norm_momentum", "norm_groups", "head_pool", "stem_pool", "stride_on"),
}


def published() -> Iterator[tuple[str, int, int]]:
    """The name of each, its size and the side before."""
    for (size, resize_to), names in _WEIGHTS.items():
        yield from ((name, size, resize_to) for name in names.split())


def network_of(options: Options) -> str | None:
    """The network that timm publishes weights of and that has these options, as far as tensors
    show them; None if there is none."""
    return _networks().get(_shown(options))


@cache
def _networks() -> dict[tuple[object, ...], str]:
    names = {label.partition(".")[0] for label, *_ in published()}
    return {_shown(registry.network(name).options): name for name in names}


def _shown(options: Options) -> tuple[object, ...]:
    return tuple(getattr(options, f.name) for f in fields(Options) if f.name not in _OPEN)

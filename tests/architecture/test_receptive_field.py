"""The receptive field, measured: which input pixels have a gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from resnetkit.architecture.registry import network
from resnetkit.architecture.shape_inference import walk
from resnetkit.nn.resnet import build

# With two channels a stage, the measured networks stay small; windows do not depend on widths.
NARROW = {"widths": (2, 2, 2, 2), "num_classes": None}
SHALLOW = {**NARROW, "depths": (1, 1, 1, 1)}
CASES = [
    ("resnet18", NARROW),
    ("resnet50", NARROW),
    ("resnet50_v1", NARROW),
    ("resnet26d", NARROW),
    ("resnet50_deep", {**NARROW, "stem_widths": (2, 2, 2)}),
    ("resnet50_caffe", NARROW),
    ("resnet26", {**NARROW, "output_stride": 8}),
    ("resnet26", {**NARROW, "output_stride": 8, "dilation_entry": "own"}),
    ("resnet18", {**NARROW, "output_stride": 16}),
    ("resnet18", {**NARROW, "output_stride": 16, "dilation_entry": "own"}),
    ("resnet26d", {**NARROW, "output_stride": 16}),
    ("resnetblur18", SHALLOW),
    ("resnetblur50d", {**SHALLOW, "stem_widths": (2, 2, 2)}),
    ("resnetblur50", {**SHALLOW, "output_stride": 16}),
    ("resnetaa50d", {**SHALLOW, "stem_widths": (2, 2, 2)}),
    ("resnetrs50", {**SHALLOW, "stem_widths": (2, 2, 2), "squeeze_excitation": None}),
    ("resnet50", {**SHALLOW, "shortcut_kernel": 3, "reduce_first": 2}),
    ("resnet20", {"widths": (2, 2, 2), "stem_widths": (2,), "num_classes": None}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_field_is_the_extent_of_the_gradient(name: str, options: dict) -> None:
    described = network(name, **options)
    by_stage = {s.located.stage: s for s in walk(described, (3, 1024, 1024)).steps}
    size = by_stage[described.stages[-1].name].receptive_field + 100
    size += -size % 32  # average pools against aliasing want even maps
    module = build(described).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.rand_like(parameter) / max(1, parameter[0].numel()))
    # The gradient of a max-pool reaches one pixel of its window; that of a mean reaches all.
    if "maxpool" in dict(module.named_children()):
        pool = module.maxpool
        module.maxpool = nn.AvgPool2d(
            pool.kernel_size, pool.stride, pool.padding, ceil_mode=pool.ceil_mode
        )
    image = torch.rand(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    for stage, output in module.stages(image).items():
        middle = output.shape[-1] // 2
        (gradient,) = torch.autograd.grad(
            output[0, :, middle, middle].sum(), image, retain_graph=True
        )
        seen = gradient[0].abs().sum(0) > 0
        rows, columns = (torch.nonzero(seen.any(axis)).flatten() for axis in (1, 0))
        extent = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
        assert extent == (by_stage[stage].receptive_field,) * 2, stage

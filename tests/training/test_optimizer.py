"""What decays, decided by kind; and the learning rate."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import resnetkit
from resnetkit.training.optimizer import learning_rate, optimizer_of, parameter_groups
from resnetkit.training.plan import plan


@pytest.mark.parametrize(
    ("name", "options", "weights", "others"),
    [
        # 53 convolutions (4 of them in shortcuts) and fc decay; 53 norms x 2 and fc's bias do not.
        ("resnet50", {}, 54, 107),
        # Biased convolutions keep their 53 biases out as well.
        ("resnet50", {"conv_bias": True}, 54, 160),
        # Two convolutions with bias in the gate of each of 8 blocks.
        ("seresnet18", {}, 20 + 16 + 1, 40 + 16 + 1),
    ],
)
def test_only_weights_of_convolutions_and_linear_layers_decay(
    name: str, options: dict, weights: int, others: int
) -> None:
    with torch.device("meta"):
        module = resnetkit.build(name, **options)
    decayed, plain = parameter_groups(module, 0.1)
    assert (len(decayed["params"]), len(plain["params"])) == (weights, others)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0)
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(p.ndim == 1 for p in plain["params"])
    norms = {
        id(p) for m in module.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()
    }
    assert norms <= {id(p) for p in plain["params"]}
    both = {id(p) for p in (*decayed["params"], *plain["params"])}
    assert both == {id(p) for p in module.parameters()}


def test_warm_up_and_cosine() -> None:
    rates = [learning_rate(step, steps=100, warmup=10, peak=2.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[9] == rates[10] == 2.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(1.0)
    assert 0 < rates[-1] < 0.01


def test_cosine_is_that_of_torch() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    for step in range(50):
        ours = learning_rate(step, steps=50, warmup=0, peak=0.3)
        assert math.isclose(ours, scheduler.get_last_lr()[0], abs_tol=1e-9)
        optimizer.step()
        scheduler.step()


def test_momentum_of_zero_has_no_nesterov() -> None:
    module = resnetkit.build("resnet20", classes=2)
    assert not optimizer_of(module, plan(momentum=0.0)).defaults["nesterov"]
    assert optimizer_of(module, plan()).defaults["nesterov"]

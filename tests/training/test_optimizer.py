"""What decays, decided by kind; and the learning rate."""

from __future__ import annotations

import math

import pytest
import timm.optim
import torch
from torch import nn

import resnetkit
from resnetkit.training.checkpoint import optimizer_arrays, put_optimizer
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.step.lamb import Lamb
from resnetkit.training.step.model_setup import freeze
from resnetkit.training.step.optimizer import learning_rate, optimizer_of, parameter_groups


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
    module = resnetkit.build("resnet20", num_classes=2)
    assert not optimizer_of(module, make_recipe(momentum=0.0)).defaults["nesterov"]
    assert optimizer_of(module, make_recipe()).defaults["nesterov"]


def test_step_linear_and_one_cycle() -> None:
    def rates(**options: object) -> list[float]:
        return [learning_rate(step, steps=100, peak=2.0, **options) for step in range(100)]

    falls = rates(warmup=10, schedule="step", milestones=(0.5, 0.75))
    assert (falls[9], falls[49], falls[50], falls[75]) == pytest.approx((2.0, 2.0, 0.2, 0.02))
    line = rates(warmup=20, schedule="linear")
    assert (line[20], line[60], line[99]) == pytest.approx((2.0, 1.0, 2 / 80))
    cycle = rates(warmup=30, schedule="one-cycle")
    assert cycle[0] == pytest.approx(2 / 25)
    assert max(cycle) == cycle[30] == 2.0


@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_lamb_is_that_of_timm(decay: float) -> None:
    ours, theirs = (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 5)) for _ in range(2)
    )
    theirs.load_state_dict(ours.state_dict())
    mine = Lamb(parameter_groups(ours, decay), lr=0.1, betas=(0.9, 0.99))
    other = timm.optim.Lamb(
        parameter_groups(theirs, decay), lr=0.1, betas=(0.9, 0.99), max_grad_norm=None
    )
    for seed in range(12):
        inputs = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
        for module, optimizer in ((ours, mine), (theirs, other)):
            optimizer.zero_grad()
            module(inputs).square().mean().backward()
            optimizer.step()
    for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_kinds_of_optimizers() -> None:
    module = resnetkit.build("resnet20", num_classes=2)
    adam = optimizer_of(module, make_recipe(optimizer="adamw", momentum=0.8, beta2=0.95))
    assert isinstance(adam, torch.optim.AdamW)
    assert adam.defaults["betas"] == (0.8, 0.95)
    assert isinstance(optimizer_of(module, make_recipe(optimizer="lamb")), Lamb)
    groups = optimizer_of(
        module, make_recipe(weight_decay_scope="all", weight_decay=0.3)
    ).param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.3]
    freeze(module, 2)
    known = {id(p) for g in optimizer_of(module, make_recipe()).param_groups for p in g["params"]}
    assert known == {id(p) for p in module.parameters() if p.requires_grad}
    assert len(known) < len(list(module.parameters()))


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_one_pass_over_the_weights_is_the_same_optimizer(kind: str) -> None:
    """Also where weights lie channels last, and where momentum was put back into that layout."""
    network = resnetkit.network("resnet20", depths=(1,), widths=(4,), stem_widths=(4,))
    recipe = make_recipe("digits", network, optimizer=kind, lr=0.01, weight_decay=0.1)
    torch.manual_seed(0)
    modules = [resnetkit.build(recipe.network).to(memory_format=torch.channels_last)]
    modules.append(resnetkit.build(recipe.network))
    modules[1].load_state_dict(modules[0].state_dict())
    optimizers = [optimizer_of(module, recipe) for module in modules]
    for group in optimizers[1].param_groups:
        group["fused"], group["foreach"] = False, False
    assert all(group["fused"] for group in optimizers[0].param_groups)
    inputs = torch.rand(4, 1, 8, 8)
    for step in range(4):
        for module, optimizer in zip(modules, optimizers, strict=True):
            optimizer.zero_grad()
            module(inputs).square().sum().backward()
            optimizer.step()
        if step == 1:
            put_optimizer(
                modules[0], optimizers[0], dict(optimizer_arrays(modules[0], optimizers[0]))
            )
    for (name, one), other in zip(
        modules[0].named_parameters(), modules[1].parameters(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=name)

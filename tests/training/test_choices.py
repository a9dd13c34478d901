"""What the choices of a recipe do: loss, mixing, skipped blocks, averages, frozen parts, pieces."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm.loss
import torch
import torch.nn.functional as F
from torch import nn

import resnetkit
from photographs import write_classes
from resnetkit.training.callbacks import Callback, RunOptions
from resnetkit.training.recipe.published import RECIPES
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run import resume, run_recipe
from resnetkit.training.step.loss import binary_cross_entropy, criterion_of, mixed_images
from resnetkit.training.step.model_setup import FlipTTA, averaged, freeze, skip_blocks
from resnetkit.training.step.optimization_step import StepOptions, train_step

TINY = resnetkit.network(
    "resnet20", depths=(2, 2), widths=(8, 16), stem_widths=(8,), num_classes=10
)
RECIPE = make_recipe(model=TINY, size=8)


class Silent(Callback):
    def __init__(self, batches: int = 0) -> None:
        self.left = batches

    def images(self, count: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def warn(self, text: str) -> None:
        pass


def module_of(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return resnetkit.build(TINY)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("threshold", [0.0, 0.2])
def test_bce_is_that_of_timm(smoothing: float, threshold: float) -> None:
    torch.manual_seed(1)
    logits, labels = torch.randn(6, 10), torch.randint(10, (6,))
    theirs = timm.loss.BinaryCrossEntropy(smoothing=smoothing)
    assert torch.allclose(
        binary_cross_entropy(logits, labels, smoothing=smoothing), theirs(logits, labels)
    )
    shares = torch.rand(6, 10).softmax(-1)
    theirs = timm.loss.BinaryCrossEntropy(smoothing=0, target_threshold=threshold or None)
    ours = binary_cross_entropy(logits, shares, threshold=threshold)
    assert torch.allclose(ours, theirs(logits, shares))


def test_balanced_classes_count_the_same() -> None:
    recipe = RECIPE.override(class_weights="balanced", label_smoothing=0.0)
    logits, labels = torch.randn(9, 2), torch.tensor([0] * 8 + [1])
    loss = criterion_of(recipe, [8, 1])(logits, labels)
    each = F.cross_entropy(logits, labels, reduction="none")
    assert torch.allclose(loss, (each[:8].mean() + each[8]) / 2)
    bce = criterion_of(recipe.override(loss="bce"), [8, 1])(logits, labels)
    assert not torch.allclose(bce, binary_cross_entropy(logits, labels))


def test_mixed_images_carry_their_shares() -> None:
    inputs, labels = torch.rand(6, 3, 8, 8), torch.arange(6)
    plain = mixed_images(inputs, labels, RECIPE, 10)
    assert plain[0] is inputs
    assert plain[1] is labels
    torch.manual_seed(3)
    images, shares = mixed_images(inputs, labels, RECIPE.override(mixup=1.0), 10)
    part = shares[1, 1]
    assert torch.allclose(images[1], part * inputs[1] + (1 - part) * inputs[0], atol=1e-6)
    assert torch.allclose(shares.sum(1), torch.ones(6))
    kinds = set()
    for seed in range(12):
        torch.manual_seed(seed)
        images, shares = mixed_images(inputs, labels, RECIPE.override(mixup=1.0, cutmix=1.0), 10)
        kinds.add(bool(((images == inputs) | (images == inputs.roll(1, 0))).all()))
    assert kinds == {True, False}, "one kind is never drawn"


def test_skipped_blocks() -> None:
    module, inputs = module_of(), torch.rand(4, 3, 16, 16)
    expected = module.eval()(inputs)
    skip_blocks(module, 0.99)
    assert torch.equal(module.eval()(inputs), expected)
    module.train()
    block = module.layer2[1]
    torch.manual_seed(0)
    x = torch.rand(64, 16, 4, 4)
    same = (block(x) == x.relu()).flatten(1).all(1).float().mean()
    assert same > 0.9, "the last block is hardly ever skipped"
    first = module.layer1[0]
    assert not (first(torch.rand(8, 8, 4, 4)) == 0).all()
    copy = averaged(module, 0.9).module
    skip = next(iter(copy.layer2[1].get_submodule("add")._forward_pre_hooks.values()))
    assert skip.block is copy.layer2[1]


def test_a_frozen_part_does_not_move() -> None:
    module = module_of()
    frozen = freeze(module, 2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.1)
    train_step(module, torch.rand(8, 3, 8, 8), torch.arange(8), optimizer, F.cross_entropy,
               StepOptions(frozen=frozen))  # fmt: skip
    changed = {n for n, v in module.state_dict().items() if not torch.equal(v, before[n])}
    assert all(not n.startswith(("conv1", "bn1", "layer1")) for n in changed)
    assert any(n.startswith("layer2") for n in changed)
    assert "fc.weight" in changed
    assert "layer2.0.bn1.running_mean" in changed


def test_pieces_have_the_gradient_of_the_whole_batch() -> None:
    network = resnetkit.network(TINY, norm="none", conv_bias=True)
    gradients = []
    for pieces in (1, 3):
        torch.manual_seed(0)
        module = resnetkit.build(network)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.0)
        torch.manual_seed(1)
        inputs, labels = torch.rand(7, 3, 8, 8), torch.arange(7)
        logits = train_step(
            module, inputs, labels, optimizer, F.cross_entropy, StepOptions(pieces=pieces)
        )
        assert logits.shape == (7, 10)
        gradients.append([p.grad for p in module.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_clipped_gradient_is_shorter() -> None:
    module = module_of()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0)
    step = partial(train_step, module, torch.rand(8, 3, 8, 8), torch.arange(8), optimizer,
                   F.cross_entropy)  # fmt: skip
    step(StepOptions())
    long = nn.utils.get_total_norm([p.grad for p in module.parameters()])
    step(StepOptions(clip=float(long) / 10))
    short = nn.utils.get_total_norm([p.grad for p in module.parameters()])
    assert float(short) == pytest.approx(float(long) / 10, rel=0.05)


def test_the_average_of_weights() -> None:
    module = module_of()
    average = averaged(module, 0.75)
    average.update_parameters(module)
    before = module.conv1.weight.detach().clone()
    with torch.no_grad():
        module.conv1.weight.add_(1)
        module.bn1.running_mean.add_(4)
    average.update_parameters(module)
    torch.testing.assert_close(average.module.conv1.weight, before + 0.25)
    torch.testing.assert_close(average.module.bn1.running_mean, torch.ones(8))


def test_mirrored() -> None:
    module, inputs = module_of().eval(), torch.rand(2, 3, 8, 8)
    expected = (module(inputs) + module(inputs.flip(-1))) / 2
    assert torch.equal(FlipTTA(module)(inputs), expected)
    assert torch.allclose(FlipTTA(module)(inputs.flip(-1)), expected, atol=1e-6)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("photographs") / "data", 12)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "last.safetensors")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_and_goes_on_after_a_crash(
    name: str, data: Path, tmp_path: Path
) -> None:
    options = {"ema_every": 2} if name == "tv-v2" else {}
    recipe = make_recipe(
        data, TINY, recipe=name, size=16, epochs=2, batch_size=10, threads=1, **options
    )
    run_recipe(recipe, tmp_path / "whole", Silent())
    with pytest.raises(KeyboardInterrupt):
        run_recipe(
            recipe, tmp_path / "cut", Silent(6), run_options=RunOptions(checkpoint_minutes=0)
        )
    resume(tmp_path / "cut", Silent())
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    best = resnetkit.load(tmp_path / "whole" / "best.safetensors")
    assert best.measured["test"].get("mirrored", False) == (name == "ffcv")


def test_averaged_weights_are_those_that_are_kept(tmp_path: Path) -> None:
    choices = {"epochs": 1, "batch_size": 128, "threads": 1}
    run_recipe(
        make_recipe(model=TINY, size=8, ema_decay=0.9, **choices), tmp_path / "average", Silent()
    )
    run_recipe(make_recipe(model=TINY, size=8, **choices), tmp_path / "plain", Silent())
    average, plain = weights(tmp_path / "average"), weights(tmp_path / "plain")
    gaps = [float((average[k] - plain[k]).abs().max()) for k in plain if k.endswith("weight")]
    assert np.mean(gaps) > 1e-4

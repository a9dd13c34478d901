"""What a GPU needs, on machines without one.

torch's fake tensors have a device, and refuse to mix two, without memory on it: so a step is placed
on ``cuda:0`` here. What they cannot show, the backward pass, streams, pinned memory and speed, only
``benchmarks/gpu.py`` tries, on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import resnetkit
from resnetkit import Preprocess
from resnetkit.architecture.network import Network
from resnetkit.cli.messages import in_flags
from resnetkit.data.decoding.tensors import normalise
from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import EngineOptions
from resnetkit.inference.engines.torch import Torch, is_out_of_memory, numbered
from resnetkit.training import batch_size_finder, checkpoint, precision
from resnetkit.training.callbacks import Callback
from resnetkit.training.data.data_loader import DataLoader, LoaderOptions
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run import run_recipe
from resnetkit.training.step import dry_run
from resnetkit.training.step.gpu import reproducible, within_memory
from resnetkit.training.step.loss import criterion_of
from resnetkit.training.step.model_setup import FlipTTA
from resnetkit.training.step.optimization_step import answered, placed
from resnetkit.training.step.optimizer import optimizer_of, set_rate

GPU = torch.device("cuda:0")
NETWORK = resnetkit.network("resnet20", depths=(1, 1), widths=(8, 16), stem_widths=(8,))


def recipe(device: str = "cpu", **choices: object) -> Recipe:
    given = {"size": 8, "epochs": 1, "batch_size": 64, "threads": 1, **choices}
    return make_recipe("digits", NETWORK, **given).override(device=device)


@pytest.fixture
def fake() -> Iterator[None]:
    with FakeTensorMode():
        yield


def built(network: Network) -> nn.Module:
    with GPU:
        return resnetkit.build(network)


def test_fake_tensors_refuse_two_devices(fake: None) -> None:
    with pytest.raises(RuntimeError, match=r"at least two devices|two different devices"):
        torch.zeros(3, device=GPU) + torch.zeros(3)


@pytest.mark.parametrize(
    "choices",
    [
        {"optimizer": "adamw", "loss": "bce", "lr": 0.001},
        {"optimizer": "adamw", "class_weights": "balanced"},
    ],
)
def test_a_step_is_on_the_gpu(fake: None, choices: dict[str, object]) -> None:
    chosen = recipe("cuda:0", **choices)
    module = built(chosen.network)
    optimizer = optimizer_of(module, chosen)
    pixels = torch.zeros(8, 1, 8, 8, dtype=torch.uint8, device=GPU)
    images = placed(normalise(pixels, chosen.preprocess), "cuda:0")
    labels = torch.zeros(8, dtype=torch.int64, device=GPU)
    # Autocast and the backward pass ask the driver, so the rest is tried around them.
    logits = answered(module.train(), images, bf16=False)
    loss = criterion_of(chosen, [5] * 10)(logits, labels)
    assert logits.device == loss.device == GPU
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    norm = torch.nn.utils.get_total_norm([p.grad for p in module.parameters()])
    torch.nn.utils.clip_grads_with_norm_(module.parameters(), 1.0, norm)
    set_rate(optimizer, 0.1)
    optimizer.step()
    kept = checkpoint.optimizer_arrays(module, optimizer)
    assert {value.device for value in kept.values()} == {GPU}


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_a_resumed_optimizer_goes_on_on_the_gpu(fake: None, name: str) -> None:
    chosen = recipe("cuda:0", optimizer=name, lr=0.001)
    module = built(chosen.network)
    optimizer = optimizer_of(module, chosen)
    saved = {
        f"{key}.{n}": torch.zeros(() if key == "step" else p.shape)
        for n, p in module.named_parameters()
        for key in (("momentum_buffer",) if name == "sgd" else ("step", "exp_avg", "exp_avg_sq"))
    }
    checkpoint.put_optimizer(module, optimizer, saved)
    fused = optimizer.param_groups[0].get("fused")
    for state in optimizer.state.values():
        for key, value in state.items():
            assert value.device == (torch.device("cpu") if key == "step" and not fused else GPU)
    # LAMB's norms are numbers, which fake tensors do not have, nor do they have torch's fused SGD.
    if name == "adamw":
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()


def test_mirrored_images_are_normalised_on_the_gpu(fake: None) -> None:
    module = FlipTTA(built(resnetkit.network("resnet20")).eval())
    preprocess = Preprocess(size=32)
    engine = Torch(module, preprocess, EngineOptions(device="cuda:0"))
    pixels = torch.zeros(2, 32, 32, 3, dtype=torch.uint8, device=GPU)
    with torch.inference_mode():
        assert engine._model(normalise(pixels.movedim(-1, -3), preprocess)).device == GPU


def test_a_loader_hands_on_what_is_on_its_device() -> None:
    chosen = recipe()
    samples = resnetkit.data.open_dataset("digits").parts["validation"]
    ours = DataLoader(samples, chosen.preprocess, LoaderOptions(batch_size=64, device="cpu"))
    assert numbered("cpu") == torch.device("cpu")
    assert numbered("cuda:3") == torch.device("cuda", 3)
    for batch in ours.batches():
        assert batch.inputs.device == batch.labels.device == torch.device("cpu")
        assert batch.inputs.dtype == torch.float32


# ------------------------------------------------------------------ the same bits every time


def flags() -> tuple[bool, ...]:
    cudnn = torch.backends.cudnn
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.deterministic,
        cudnn.benchmark,
        torch.utils.deterministic.fill_uninitialized_memory,
    )


def test_only_deterministic_algorithms_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = flags()
    with reproducible(recipe("cuda:0")):
        assert flags() == (True, True, True, False, False)
    assert flags() == before
    with reproducible(recipe("cuda:0", deterministic=False)):
        assert (flags()[0], *flags()[2:]) == (False, False, True, False)
    assert flags() == before
    with reproducible(recipe("cpu")):
        assert flags() == before


# -------------------------------------------------------------------------- a full memory


class Full(Callback):
    """The memory is full after a batch."""

    def images(self, count: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_a_full_memory_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run_recipe(recipe(), tmp_path / "run", Full())
    said = in_flags(caught.value)
    assert said == (
        "--batch-size is 64 at 8 pixels, which does not fit into the memory; give "
        "--grad-accum-steps 2, --batch-size 32, or --batch-size auto, which measures the largest "
        "that fits"
    )


def test_a_step_of_two_images_cannot_be_divided() -> None:
    with (
        pytest.raises(InputError, match=r"; give batch_size=2, or batch_size='auto'"),
        within_memory(recipe(batch_size=2)),
    ):
        torch.empty(1 << 50, dtype=torch.uint8)  # a processor's message


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^no such thing$"), within_memory(recipe()):
        raise RuntimeError("no such thing")
    assert is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"))
    assert not is_out_of_memory(ValueError("can't allocate memory"))


def test_an_engine_with_too_large_a_batch() -> None:
    class Hungry(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            if len(pixels) > 2:
                return torch.empty(1 << 50, dtype=torch.uint8)
            return pixels.float().mean((1, 2))

    engine = Torch(Hungry(), options=EngineOptions(device="cpu"))
    few, many = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((3, 8, 8, 3), np.uint8)
    assert engine.answer(few).shape == (2, 3)
    assert [len(rows) for rows in engine.infer_batches([few, few])] == [2, 2]
    with pytest.raises(InputError, match=r"3 images at once .* of cpu; give a smaller batch_size"):
        engine.answer(many)
    with pytest.raises(InputError, match="smaller batch_size"):
        list(engine.infer_batches([few, many]))


def test_the_batch_finder_passes_on_other_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: dry_run.DryRun, inputs: object, *, bf16: bool) -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(dry_run.DryRun, "step", step)
    with pytest.raises(RuntimeError, match="no such thing"):
        batch_size_finder._rate(dry_run.DryRun(recipe(precision="fp32")), 4)


# -------------------------------------------------------------------------------- precision


def test_float32_that_does_not_fit_is_not_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(precision, "has_bf16", lambda _: True)

    def step(self: dry_run.DryRun, inputs: object, *, bf16: bool) -> None:
        if not bf16:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(dry_run.DryRun, "step", step)
    assert precision.probed(recipe())["fp32"] == math.inf
    assert precision.settled(recipe()).runtime.precision == "bf16"
    # It may be that others had the memory.
    assert not list(tmp_path.rglob("*.json"))


def test_a_gpu_is_measured_with_the_whole_batch() -> None:
    large = replace(recipe(batch_size=64), batch_size=100_000)
    assert precision._images(large) < 100_000
    assert precision._images(large.override(device="cuda")) == 100_000

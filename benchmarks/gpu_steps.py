"""The parts of `gpu.py` about training steps: their speed, and their memory."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

import resnetkit
from gpu_timing import Contender, Runner, Setting, matmul_peak, published_peak, race
from resnetkit import Preprocess, explain, network
from resnetkit.errors import InputError
from resnetkit.inference import open_engine
from resnetkit.training.recipe.augmentation import Augment
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.step.compile import check_compiler, compiled
from resnetkit.training.step.gpu import reproducible, within_memory
from resnetkit.training.step.loss import criterion_of
from resnetkit.training.step.model_setup import freshly_built
from resnetkit.training.step.optimization_step import Score, StepOptions, placed, train_step
from resnetkit.training.step.optimizer import optimizer_of, set_rate


def recipe_of(name: str, size: int, batch: int, device: str, **choices: Any) -> Recipe:
    """What of a recipe a step depends on, with the values of torchvision's reference."""
    return Recipe.of(
        data="", network=replace(network(name), input_size=size), preprocess=Preprocess(size=size),
        augment=Augment(), epochs=90, batch_size=batch, lr=0.01, nesterov=False, weight_decay=1e-4,
        weight_decay_scope="all", label_smoothing=0.0, warmup=0.0, device=device, **choices,
    )  # fmt: skip


def noise(batch: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Normalised images and labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, size, size, generator=generator)
    return images.to(device), torch.randint(1000, (batch,), generator=generator).to(device)


# ---------------------------------------------------------------------------- (3) the step


def theirs(
    package: str, name: str, batch: int, size: int, device: torch.device, *, dtype: torch.dtype,
    channels_last: bool,
) -> Runner:  # fmt: skip
    """The loop of a package's training script with AMP, on images that are on the device.

    torchvision's references/classification/train.py scales the loss and reads the loss and two
    accuracies of each batch; timm's train.py reads nothing between its log lines.
    """
    torch.manual_seed(0)
    if package == "timm":
        model = importlib.import_module("timm").create_model(name, pretrained=False)
    else:
        model = getattr(torchvision.models, name)(weights=None)
    model.to(device).train()
    images, labels = noise(batch, size, device)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def run(times: int) -> None:
        for _ in range(times):
            with torch.autocast(device.type, dtype):
                output = model(images)
                loss = criterion(output, labels)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            if package == "torchvision":
                with torch.inference_mode():
                    right = output.topk(5)[1].t().eq(labels[None])
                    values = [loss, *(right[:k].flatten().sum(dtype=torch.float32) for k in (1, 5))]
                    for value in values:
                        value.item()

    return run


def ours(recipe: Recipe) -> Runner:
    """Steps of the trainer by a recipe, on images that are on the device."""
    device = torch.device(recipe.runtime.device)
    torch.manual_seed(0)
    with within_memory(recipe):
        module = freshly_built(recipe)
    optimizer, criterion = optimizer_of(module, recipe), criterion_of(recipe, [])
    forward = compiled(module) if recipe.runtime.compile else None
    images, labels = noise(recipe.batch_size, recipe.preprocess.size, device)
    score = Score()
    set_rate(optimizer, recipe.optimizer.lr)

    def run(times: int) -> None:
        with reproducible(recipe), within_memory(recipe):
            for _ in range(times):
                logits = train_step(
                    *(module, placed(images, recipe.runtime.device), labels, optimizer, criterion),
                    StepOptions(forward=forward, bf16=recipe.runtime.precision == "bf16"),
                )
                score.add(logits, labels)

    return run


def our_contender(title: str, name: str, batch: int, size: int, device: torch.device,
                  **choices: Any) -> Contender:  # fmt: skip
    recipe = recipe_of(name, size, batch, str(device), **choices)
    return Contender(name=title, batch=batch, make=lambda: ours(recipe),
                     facts={"precision": recipe.runtime.precision})  # fmt: skip


def their_contender(
    title: str, package: str, *common: Any, fp16: bool, channels_last: bool
) -> Contender:
    """``common`` are the network, the batch, the size and the device."""
    dtype = torch.float16 if fp16 else torch.bfloat16

    def make() -> Runner:
        return theirs(package, *common, dtype=dtype, channels_last=channels_last)

    facts = {"precision": "fp16" if fp16 else "bf16"}
    return Contender(name=title, batch=common[1], make=make, facts=facts)


def step(setting: Setting) -> None:
    """Training steps of ResNet-50 against torchvision's loop and timm's, and shares of the peak."""
    device = setting.device
    name, size, batch = ("resnet18", 32, 2) if setting.miniature else ("resnet50", 224, 256)
    product = 128 if setting.miniature else 8192
    peak = matmul_peak(device, torch.bfloat16, product)
    published = published_peak(device)
    setting.write(f"Product of two {product}x{product} bf16 matrices", **peak,
                  published=published or "not known")  # fmt: skip
    macs = explain(network(name), size).totals.macs
    common = (name, batch, size, device)
    first = their_contender("torchvision's loop, AMP", "torchvision", *common, fp16=True,
                            channels_last=False)  # fmt: skip
    eager = [
        first,
        our_contender("resnetkit", *common, precision="bf16"),
        their_contender("timm's loop, AMP, channels last", "timm", *common, fp16=True,
                        channels_last=True),
        our_contender("resnetkit, not deterministic", *common, precision="bf16",
                      deterministic=False),
        their_contender("torchvision's loop, bf16, channels last", "torchvision", *common,
                        fp16=False, channels_last=True),
        our_contender("resnetkit", *common, precision="fp32"),
    ]  # fmt: skip
    seconds = 0.02 if setting.miniature else 0.7
    table = f"Training steps of {name} at {size} pixels, images on the device"

    def keep(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            shares = {}
            if "images_s" in row:
                reached = 3 * 2 * macs * row["images_s"] / 1e12
                shares = {"TFLOP_s": reached, "of_measured_peak": reached / peak["TFLOP_s"]}
                if published:
                    shares["of_published"] = reached / published
            setting.write(table, **row, **shares)

    rounds = 2 if setting.miniature else 5
    found = race(setting, eager, rounds=rounds, seconds=seconds, reserve=10)
    keep(found)
    try:
        check_compiler()
    except InputError as error:
        setting.write(table, what="resnetkit, compiled", error=str(error))
        return
    later = [
        our_contender("resnetkit", *common, precision="bf16"),
        our_contender("resnetkit, compiled", *common, precision="bf16", compile=True,
                      deterministic=False),
    ]  # fmt: skip
    if setting.miniature:
        later.pop()  # minutes of a processor's compiler; tests/training has its own
    both = race(setting, later, rounds=rounds, seconds=seconds, reserve=20)
    keep(both[1:])
    if len(both) == 2 and "images_s" in both[1]:
        plain, fast = both
        gain = batch / plain["images_s"] - batch / fast["images_s"]
        pays = (fast["start_s"] - plain["start_s"]) / gain if gain > 0 else float("inf")
        setting.write("When compiling pays", network=name, compiling_s=fast["start_s"],
                      to_eager=fast["ratio"],
                      pays_after_steps=round(pays) if gain > 0 else "never")  # fmt: skip


# ------------------------------------------------------------------------------ (7) memory


def memory(setting: Setting) -> None:
    """Peak memory of steps and networks, and what is said when it is full."""
    device = setting.device
    name, size = ("resnet18", 32) if setting.miniature else ("resnet50", 224)
    for batch in (2,) if setting.miniature else (64, 256):
        common = (name, batch, size, device)
        contenders = [
            # Processors take seconds for a step in float16.
            their_contender("torchvision's loop, AMP", "torchvision", *common,
                            fp16=setting.gpu, channels_last=False),
            our_contender("resnetkit", *common, precision="bf16"),
            our_contender("resnetkit", *common, precision="fp32"),
            our_contender("resnetkit, 4 pieces", *common, precision="bf16", grad_accum_steps=4)
            if batch >= 8 else None,
        ]  # fmt: skip
        for one in filter(None, contenders):
            # One at a time, so that a peak is that of one.
            for row in race(setting, [one], rounds=1, seconds=0.01):
                setting.write(f"Peak memory of a training step, {name} at {size} pixels", **{
                    key: row.get(key) for key in ("what", "batch", "precision", "peak_GiB",
                                                  "images_s", "error")
                    if key in row
                })  # fmt: skip
    for what, attempt in (("training", full_training), ("the engine torch", full_engine)):
        try:
            attempt(setting)
            said = "it fitted"
        except InputError as error:
            said = str(error)
        setting.write("What a full memory says", what=what, said=said)


def full_training(setting: Setting) -> None:
    """Train with a batch that does not fit."""
    if not setting.gpu:
        with within_memory(recipe_of("resnet18", 32, 4, "cpu")):
            torch.empty(1 << 50, dtype=torch.uint8)
        return
    limit(setting, 2.0)
    resnetkit.train("digits", out=setting.folder / "full", model="resnet50", size=224, epochs=1,
                    batch_size=256, device=str(setting.device), precision="fp32")  # fmt: skip


def full_engine(setting: Setting) -> None:
    """Run a batch that does not fit."""
    size = 224 if setting.gpu else 32
    bundle = resnetkit.Bundle.from_module(
        resnetkit.build("resnet18"), preprocess=Preprocess(size=size)
    )
    engine = open_engine(bundle, "torch", device=str(setting.device))
    if setting.gpu:
        limit(setting, 1.0)
    engine.answer(np.zeros((2048 if setting.gpu else 2, size, size, 3), np.uint8))


def limit(setting: Setting, gib: float) -> None:
    """Let torch allocate no more than that of the card."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(setting.device).total_memory / (1 << 30)
    torch.cuda.set_per_process_memory_fraction(min(1.0, gib / total), setting.device)

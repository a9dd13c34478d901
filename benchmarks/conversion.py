"""How exact and how fast conversions are.

For each dialect and network: the largest difference of the logits of our network to those of the
framework's own module, relative to the largest logit. Weights are drawn, statistics are not fresh;
where no package is installed, the logits are those of the reference manifests. Then the time of a
conversion of a ResNet-50 (load, check, rename, write) against `torch.load` and `torch.save` of the
same file, in one process in turn; the proof (reading back, two forward passes) is counted apart.

    .venv/bin/python benchmarks/conversion.py [--runs 15] [--only exactness|speed]
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from pairs import processor
from resnetkit import load
from resnetkit.bundle.equivalence import answers
from resnetkit.checkpoints import writing
from resnetkit.checkpoints.recognition import dialect, read
from resnetkit.hub.conversion import convert
from resnetkit.hub.source_framework import verify

REFERENCE = Path(__file__).parents[1] / "tests" / "reference"
PACKAGES = ("torch", "torchvision", "timm", "transformers", "pytorchcv", "keras")
TORCHVISION = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
TORCHVISION += ("wide_resnet50_2", "resnext50_32x4d")
TIMM = ("resnet26d", "resnet50c", "resnet50d", "resnet26t", "seresnet50")
TIMM += ("seresnext26t_32x4d",)
PYTORCHCV = ("resnet18", "resnet50", "resnet50b", "resnext50_32x4d", "seresnet50")
PYTORCHCV += ("resnet20_cifar10",)


# ------------------------------------------------------------------------------- exactness


def modules() -> Iterator[tuple[str, str, Callable[[], Any], dict[str, Any]]]:
    """Dialect, network, how to make the framework's own module, and the facts of it."""
    for name in TORCHVISION:
        yield "torchvision", name, lambda name=name: package("torchvision.models", name)(), {}
    for name in TIMM:
        yield "timm", name, lambda name=name: package("timm", "create_model")(name), {}
    for name in PYTORCHCV:
        model = package("pytorchcv.model_provider", "get_model")
        facts = {} if not name.endswith("b") else {"stride_on": "3x3"}
        yield "pytorchcv", name, lambda name=name, model=model: model(name), facts
    for early in (False, True):
        facts = {"stride_on": "1x1" if early else "3x3"}
        yield (
            "transformers",
            f"resnet50, {facts['stride_on']}",
            lambda e=early: huggingface(e),
            facts,
        )
    for name in ("ResNet50", "ResNet101"):
        yield "keras", name, lambda name=name: keras(name), {}


def package(name: str, part: str) -> Any:
    return getattr(importlib.import_module(name), part)


def huggingface(early: bool) -> Any:
    code = importlib.import_module("transformers")
    return code.ResNetForImageClassification(code.ResNetConfig(downsample_in_bottleneck=early))


def keras(name: str) -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    code = importlib.import_module("keras.src.applications.resnet")
    return getattr(code, name)(weights=None, classifier_activation=None)


def saved(dialect: str, model: Any, folder: Path) -> Path:
    """The file that the framework itself writes, with numbers that are not fresh."""
    torch.manual_seed(0)
    if dialect == "keras":
        for variable in model.variables:
            if variable.path.endswith(("gamma", "moving_variance")):
                variable.assign(torch.empty(variable.shape).uniform_(0.5, 1.5))
        model.save_weights(folder / "a.weights.h5")
        return folder / "a.weights.h5"
    for value in model.parameters():
        if value.ndim == 1:
            value.data.uniform_(0.5, 1)
    for key, value in model.named_buffers():
        if key.endswith("running_mean"):
            value.uniform_(-0.1, 0.1)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    torch.save(model.state_dict(), folder / "a.pth")
    return folder / "a.pth"


def weights() -> ModuleType:
    spec = importlib.util.spec_from_file_location("weights", REFERENCE / "weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def manifests() -> Iterator[tuple[str, str, float]]:
    """Dialect, manifest and difference, of the projects that no package brings."""
    drawn = weights()
    for path in sorted(REFERENCE.glob("*.json")):
        told = json.loads(path.read_text())
        runs = [run for run in told["runs"] if run["logits"] and max(run["input"]["image"]) < 300]
        if not runs or path.stem.startswith((*PACKAGES,)):
            continue
        arrays = drawn.state_dict(told["keys"])
        reading = read({name: tuple(array.shape) for name, array in arrays.items()})
        if reading.network.options.block == "bottleneck":
            stride = {"conv1": "1x1", "conv2": "3x3"}[told["architecture"]["stride_in"]]
            reading = reading.settle(stride_on=stride)
        worst = 0.0
        for run in runs:
            given = drawn.eps_probe(arrays) if run["weights"] == "eps_probe" else arrays
            ours = {n: writing.tensor(a) for n, a in reading.to_ours(given).items()}
            pixels = torch.from_numpy(drawn.image(tuple(run["input"]["image"])))
            logits = answers(reading.network, ours, pixels)
            for row, first, scale in zip(
                logits, run["logits"]["first16"], run["logits"]["max_abs"], strict=True
            ):
                worst = max(worst, float((row[:16] - torch.tensor(first)).abs().max()) / scale)
        yield reading.dialect.name, f"{path.stem} (manifest)", worst


def exactness() -> None:
    print("| dialect | network | against | largest relative difference |")
    print("|---|---|---|--:|")
    for name, network, make, facts in modules():
        with tempfile.TemporaryDirectory() as folder:
            path = saved(name, make(), Path(folder))
            bundle = load(path, **facts)
            bundle = replace(bundle, preprocess=replace(bundle.preprocess, size=224))
            found = verify(path, bundle)
        row = f"| `{name}` | {network} | {found.framework} | {found.found.relative:.1e} |"
        print(row, flush=True)
    for name, manifest, worst in manifests():
        print(f"| `{name}` | {manifest.removesuffix(' (manifest)')} | manifest | {worst:.1e} |")


# ----------------------------------------------------------------------------------- speed


def plain(source: Path, target: Path) -> None:
    torch.save(torch.load(source, weights_only=True), target)


def unproven(source: Path, target: Path, to: str) -> None:
    """All that `convert` does but the proof."""
    bundle = load(source)
    ours = {name: writing.array(tensor) for name, tensor in bundle.arrays.items()}
    theirs = dialect(to).write(bundle.network, ours)
    kind = writing.ending(target)
    writing.write(target, kind, theirs, dialect(to), bundle.network, bundle.origin)


def proven(source: Path, target: Path, to: str) -> None:
    convert(load(source), target, to=to)


def seconds(work: Callable[..., None], *arguments: Any) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def speed(runs: int) -> None:
    print(f"\nn = {runs}, in one process in turn; ResNet-50, 102 MB")
    print("| conversion | torch.load + torch.save | without proof | ratio | with proof | ratio |")
    print("|---|--:|--:|--:|--:|--:|")
    for to, name in (("transformers", "b.pth"), ("timm", "b.safetensors"), ("detectron2", "b.pkl")):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            source = folder / "a.pth"
            torch.save(package("torchvision.models", "resnet50")().state_dict(), source)
            works = (
                (plain, source, folder / "plain.pth"),
                (unproven, source, folder / name, to),
                (proven, source, folder / name, to),
            )
            for work in works:
                seconds(*work)  # once, so that all find their files in the page cache
            rows = [[seconds(*work) for work in works] for _ in range(runs)]
        times = [statistics.median(column) for column in zip(*rows, strict=True)]
        ratios = [statistics.median(row[i] / row[0] for row in rows) for i in (1, 2)]
        print(
            f"| torchvision to {to}, `{Path(name).suffix}` | {times[0]:.3f} s | {times[1]:.3f} s "
            f"| {ratios[0]:.2f} | {times[2]:.3f} s | {ratios[1]:.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--only", choices=("exactness", "speed"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    print(f"{date.today()}, {processor()}, Python {platform.python_version()}, {versions}\n")
    if args.only != "speed":
        exactness()
    if args.only != "exactness":
        speed(args.runs)


if __name__ == "__main__":
    main()

"""Benchmarks a model's engines on this machine, against each other and other packages."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from resnetkit.bundle.bundle import Bundle
from resnetkit.bundle.opening import as_model
from resnetkit.data.prefetch import Track
from resnetkit.errors import InputError
from resnetkit.evaluation.timing import Contestant, Raced, race
from resnetkit.inference.engines.autotune import machine
from resnetkit.inference.engines.engine import Engine, EngineName, Output, Pixels, Rows
from resnetkit.inference.engines.exported_model import Exported
from resnetkit.inference.engines.selection import installed, on_gpu, open_engine

#: The engines of a bundle; the first is the reference.
CHOICES: tuple[EngineName, ...] = (
    "torch", "torch-compiled", "torch-bf16", "torch-fp16",
    "onnxruntime", "openvino", "openvino-bf16",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Benchmark results: each row is images per second of one engine or package at one batch size.

    ``differences`` are the largest differences of the logits to the first engine's, as a share of
    the largest logit, by name.
    """

    network: str
    size: int
    machine: dict[str, Any]
    rows: tuple[Raced, ...]
    differences: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "network": self.network,
            "size": self.size,
            "machine": self.machine,
            "rows": [row.to_dict() for row in self.rows],
            "differences": self.differences,
        }


def benchmark(
    model: Bundle | Exported | str | Path,
    *,
    engines: Sequence[EngineName] = (),
    against: Sequence[str] = (),
    batch_sizes: Sequence[int] = (1, 8),
    rounds: int = 5,
    seconds: float = 0.5,
    threads: int | None = None,
    track: Track = iter,
) -> Benchmark:
    """Benchmark the engines of ``model``, and other packages with the same weights, on noise.

    ``engines`` defaults to all installed ones except ``torch-compiled``, which requires a compiler
    and is slow to start, and without a GPU those in lower precision. ``against`` are packages
    (``torchvision``, ``timm``, ``transformers``) that run their own network as documented, on
    normalised pixels, on a GPU if there is one, as the torch engines do.

    Raises ``ValueError`` for unavailable engines or packages, and for batch sizes below 1.

    >>> found = resnetkit.benchmark(model, engines=["torch"], batch_sizes=[1], rounds=1)
    >>> found.rows[0].name
    'torch'
    """
    model = as_model(model)
    if not batch_sizes or min(batch_sizes) < 1:
        raise InputError(
            f"batch_sizes is {list(batch_sizes)}; give whole numbers from 1", field="batch_sizes"
        )
    if against and isinstance(model, Exported):
        raise InputError(
            "against requires a bundle's weights, and the model is an exported file; give the "
            "bundle, or leave against out",
            field="against",
        )
    output: Output = "logits" if model.classes else "embeddings"
    size, channels = model.preprocess.size, model.preprocess.channel_count
    draw = np.random.default_rng(0)
    shape = (max(batch_sizes), size, size, channels)
    pixels = draw.integers(0, 256, shape, dtype=np.uint8)
    contestants: list[Contestant] = []
    outputs: dict[str, Rows] = {}
    with ExitStack() as stack:
        for choice in engines or _installed(model):
            engine = open_engine(model, choice, output, threads=threads)
            outputs[engine.name] = engine.answer(pixels[:1])
            contestants += [
                Contestant(
                    name=engine.name,
                    precision=engine.precision,
                    batch=batch,
                    run=partial(_engine, engine, pixels[:batch]),
                )
                for batch in batch_sizes
            ]
        if against and isinstance(model, Bundle):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for package in against:
                found, outputs[package] = _rival(
                    model, package, folder, pixels, batch_sizes, threads
                )
                contestants += found
        rows = race(contestants, rounds=rounds, seconds=seconds, track=track)
    order = sorted(range(len(rows)), key=lambda number: batch_sizes.index(rows[number].batch))
    first = next(iter(outputs.values()))
    largest = float(np.abs(first).max()) or 1.0
    return Benchmark(
        network=model.network.name,
        size=size,
        machine=machine(),
        rows=tuple(rows[number] for number in order),
        differences={
            name: float(np.abs(found - first).max()) / largest for name, found in outputs.items()
        },
    )


def _installed(model: Bundle | Exported) -> list[EngineName]:
    kinds = model.engines if isinstance(model, Exported) else CHOICES
    there: list[EngineName] = [one for one in kinds if one != "torch-compiled" and installed(one)]
    if not on_gpu():
        there = [one for one in there if one not in ("torch-bf16", "torch-fp16")]
    if "openvino-bf16" in there:
        from resnetkit.inference.engines.openvino import has_bf16

        if not has_bf16():
            there.remove("openvino-bf16")
    return there


def _engine(engine: Engine, pixels: Pixels, times: int) -> None:
    deque(engine.infer_batches(repeat(pixels, times)), maxlen=0)


def _rival(
    bundle: Bundle,
    package: str,
    folder: Path,
    pixels: Pixels,
    batches: Sequence[int],
    threads: int | None,
) -> tuple[list[Contestant], Rows]:
    import torch

    from resnetkit.data.decoding.tensors import normalise
    from resnetkit.hub.source_framework import rival
    from resnetkit.inference.engines.torch import device_named

    if threads is not None:  # as many as the engines have
        torch.set_num_threads(threads)
    device = torch.device(device_named(None))
    with device:
        model = rival(bundle, package, folder)
    inputs = normalise(torch.from_numpy(pixels).movedim(-1, -3).to(device), bundle.preprocess)

    @torch.inference_mode()
    def run(batch: int, times: int) -> None:
        for _ in range(times):
            model(inputs[:batch])
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with torch.inference_mode():
        rows: Rows = model(inputs[:1]).flatten(1).cpu().numpy()
    return [
        Contestant(name=package, precision="fp32", batch=batch, run=partial(run, batch))
        for batch in batches
    ], rows

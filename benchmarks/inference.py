"""Images a second of a network alone: our engines against our peers, in turn in one process.

Ours take uint8 pixels and normalise them; the others are given float32 that is normalised already.
The first row of a batch is torchvision's network as its documentation runs it; all ratios are to
that one. The share is that of the multiply-adds in what matrix products of this machine reach.

    .venv/bin/python benchmarks/inference.py [--runs 5] [--networks resnet18,resnet50,resnet101]
        [--batches 1,8,32] [--seconds 1.5] [--without torch.compile] [--save NAME]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import torch

import peers
from resnetkit import explain
from resnetkit.bundle.opening import open_model
from resnetkit.evaluation.timing import Contestant, Raced, race
from resnetkit.inference.engines.engine import Engine, EngineName
from resnetkit.inference.engines.openvino import has_bf16
from resnetkit.inference.engines.selection import open_engine
from results import Table, add_save

PACKAGES = ("torch", "torchvision", "timm", "onnxruntime", "openvino", "nncf")
#: Processors with bfloat16 compute in that too; OpenVINO by hand does so without being asked.
BF16 = has_bf16()
ENGINES: dict[EngineName, str] = {
    "torch": "fp32", "torch-compiled": "fp32", "onnxruntime": "fp32", "openvino": "fp32",
    **({"openvino-bf16": "bf16"} if BF16 else {}),
}  # fmt: skip


class Prepared:
    """One network with everything that its contestants need, each made when it is first used."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.module, self.bundle = peers.prepared(name, folder)
        self._made: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def onnx(self) -> Path:
        path = self.folder / f"{self.name}.onnx"
        return self.once("onnx", lambda: peers.exported(self.module, path))

    def openvino(self, *, int8: bool) -> Any:
        return self.once(f"openvino {int8}", lambda: peers.openvino_model(self.module, int8=int8))

    def engine(self, name: EngineName) -> Engine:
        return self.once(f"engine {name}", lambda: open_engine(self.bundle, name))

    def int8(self) -> Engine:
        path = self.folder / f"{self.name}.safetensors"
        return self.once(
            "int8", lambda: open_engine(open_model(peers.quantised(path, self.folder)))
        )


def ours(engine: Engine, batch: int) -> peers.Runner:
    """A stream of batches through one of our engines."""
    pixels = peers.photographs(batch)
    return lambda times: deque(engine.infer_batches(repeat(pixels, times)), maxlen=0)


def makers(net: Prepared) -> dict[str, tuple[str, Callable[[int], peers.Runner]]]:
    """Every contestant: its precision, and what makes it run batches of a size."""
    found: dict[str, tuple[str, Callable[[int], peers.Runner]]] = {
        "torchvision, eager": ("fp32", lambda b: peers.eager(net.module, b)),
        "timm, eager": ("fp32", lambda b: peers.eager(peers.timm(net.name, net.module), b)),
        "torch.compile": ("fp32", lambda b: peers.compiled(peers.network(net.name), b)),
        "ONNX Runtime by hand": ("fp32", lambda b: peers.onnxruntime(net.onnx(), b)),
    }
    for precision in ("fp32", "bf16", "int8") if BF16 else ("fp32", "int8"):
        for hint in ("LATENCY", "THROUGHPUT"):
            found[f"OpenVINO by hand, {precision}, {hint.lower()}"] = (
                precision,
                lambda b, p=precision, h=hint: peers.openvino(
                    net.openvino(int8=p == "int8"), b, h, fp32=p == "fp32"
                ),
            )
    for name, precision in ENGINES.items():
        found[f"resnetkit, {name}"] = (precision, lambda b, n=name: ours(net.engine(n), b))
    found["resnetkit, openvino, int8"] = ("int8", lambda b: ours(net.int8(), b))
    return found


def gemm(size: int = 2048, rounds: int = 5) -> float:
    """Billions of multiply-adds a second of torch's float32 matrix products, the median."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        a @ b
        found.append(size**3 / (time.perf_counter() - start) / 1e9)
    return statistics.median(found)


def measured(
    net: Prepared, batch: int, rounds: int, seconds: float, without: set[str]
) -> list[Raced]:
    contestants = []
    for name, (precision, make) in makers(net).items():
        if not any(part in name for part in without):
            print(f"  {name}", file=sys.stderr, flush=True)
            run = make(batch)
            contestants.append(Contestant(name=name, precision=precision, batch=batch, run=run))
    return race(contestants, rounds=rounds, seconds=seconds)


def rows(
    names: list[str],
    batches: list[int],
    rounds: int,
    seconds: float,
    without: set[str],
    reached: float,
) -> Iterator[dict[str, Any]]:
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            net = Prepared(name, Path(folder))
            macs = explain(net.bundle.network, 224).totals.macs
            for batch in batches:
                for row in measured(net, batch, rounds, seconds, without):
                    share = row.rate * macs / 1e9 / reached
                    yield {"network": name, "share": share, **row.to_dict()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--networks", default="resnet18,resnet50,resnet101")
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--without", default="")
    add_save(parser)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    without = set(filter(None, args.without.split(",")))
    reached = gemm()
    table = Table(
        title="Images a second of a network alone",
        how=f"n = {args.runs} rounds in turn, {args.seconds} s each, medians; the share is that of "
        f"what float32 matrix products reach, {2 * reached:.0f} GFLOP/s",
        packages=PACKAGES,
        columns=(
            ("network", "network", ""),
            ("batch", "batch", "d"),
            ("what", "name", ""),
            ("img/s", "rate", ".1f"),
            ("to torchvision", "ratio", ".2f"),
            ("least", "least", ".2f"),
            ("most", "most", ".2f"),
            ("share", "share", ".0%"),
        ),
        bars="ratio",
        groups=("network", "batch"),
    )
    table.begin()
    batches = [int(batch) for batch in args.batches.split(",")]
    names = args.networks.split(",")
    for row in rows(names, batches, args.runs, args.seconds, without, reached):
        table.add(row)
    table.save(args.save)


if __name__ == "__main__":
    main()

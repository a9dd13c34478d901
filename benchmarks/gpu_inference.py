"""The parts of `gpu.py` about inference: the network alone."""

from __future__ import annotations

import importlib
import importlib.util
from collections import deque
from collections.abc import Callable
from itertools import repeat
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

import resnetkit
from gpu_timing import (
    Contender,
    NotPossibleError,
    Runner,
    Setting,
    one_line,
    published_peak,
    race,
)
from resnetkit import Preprocess
from resnetkit.inference import open_engine
from resnetkit.inference.engines.conv_bn_fusion import folded
from resnetkit.inference.engines.torch import WithNormalization

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


# ------------------------------------------------------------------------- (4) inference


class Networks:
    """torchvision's and timm's network and ours, with the same weights."""

    def __init__(self, name: str, size: int, device: torch.device) -> None:
        torch.manual_seed(0)
        self.name, self.size, self.device = name, size, device
        self.torchvision = getattr(torchvision.models, name)(weights=None).eval()
        module = resnetkit.build(name)
        module.load_state_dict(self.torchvision.state_dict())
        self.bundle = resnetkit.Bundle.from_module(module, preprocess=Preprocess(size=size))

    def pixels(self, batch: int) -> np.ndarray[Any, Any]:
        draw = np.random.default_rng(0)
        return draw.integers(0, 256, (batch, self.size, self.size, 3), dtype=np.uint8)

    def peer(self, package: str, precision: str) -> nn.Module:
        """A package's own network in evaluation mode, channels last."""
        if package == "timm":
            module = importlib.import_module("timm").create_model(self.name, pretrained=False)
        else:
            module = getattr(torchvision.models, self.name)(weights=None)
        module.load_state_dict(self.torchvision.state_dict())
        module = module.eval().to(self.device, DTYPES[precision])
        found: nn.Module = module.to(memory_format=torch.channels_last)
        return found

    def mine(self, precision: str) -> nn.Module:
        """Our folded network, which also normalises."""
        module = WithNormalization(folded(self.bundle), "logits").eval().requires_grad_(False)
        module.compute = DTYPES[precision]
        module.network.to(module.compute)
        return module.to(self.device).to(memory_format=torch.channels_last)


def calls(module: Callable[[Tensor], Tensor], x: Tensor) -> Runner:
    @torch.inference_mode()
    def run(times: int) -> None:
        for _ in range(times):
            module(x)

    return run


def replayed(module: nn.Module, x: Tensor) -> Runner:
    """A CUDA graph of the network, replayed."""
    with torch.inference_mode():
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                module(x)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kept = module(x)

    def run(times: int) -> Tensor:
        for _ in range(times):
            graph.replay()
        return kept

    return run


def inference_contenders(
    nets: Networks, batch: int, precision: str, *, compiled: bool
) -> list[Contender]:
    """Theirs on normalised images, ours on bytes, all on the device; the first is torchvision's."""
    dtype, device = DTYPES[precision], nets.device

    def images() -> Tensor:
        x = torch.randn(batch, 3, nets.size, nets.size, device=device).to(dtype)
        return x.contiguous(memory_format=torch.channels_last)

    def pixels() -> Tensor:
        return torch.from_numpy(nets.pixels(batch)).to(device)

    makers: dict[str, Callable[[], Runner]] = {
        "torchvision, eager": lambda: calls(nets.peer("torchvision", precision), images()),
    }
    if compiled:
        makers["torchvision, compiled"] = lambda: calls(
            torch.compile(nets.peer("torchvision", precision), mode="reduce-overhead"), images()
        )
        makers["resnetkit, compiled"] = lambda: calls(
            torch.compile(nets.mine(precision), mode="reduce-overhead"), pixels()
        )
    else:
        engine = "torch" if precision == "fp32" else f"torch-{precision}"
        makers["resnetkit, network"] = lambda: calls(nets.mine(precision), pixels())
        if device.type == "cuda":
            makers["resnetkit, CUDA graph"] = lambda: replayed(nets.mine(precision), pixels())
        makers[f"resnetkit, engine {engine}, pixels from the processor"] = lambda: streamed(
            nets, engine, batch
        )
        makers["timm, eager"] = lambda: calls(nets.peer("timm", precision), images())
    facts = {"precision": precision}
    return [Contender(name=n, batch=batch, make=m, facts=facts) for n, m in makers.items()]


def streamed(nets: Networks, engine: Any, batch: int) -> Runner:
    opened, pixels = open_engine(nets.bundle, engine, device=str(nets.device)), nets.pixels(batch)
    return lambda times: deque(opened.infer_batches(repeat(pixels, times)), maxlen=0)


def onnx_contender(setting: Setting, nets: Networks, batch: int) -> Contender:
    """ONNX Runtime with CUDA on our exported graph."""
    code = importlib.import_module("onnxruntime")
    provider = "CUDAExecutionProvider" if setting.gpu else "CPUExecutionProvider"
    if provider not in code.get_available_providers():
        raise NotPossibleError(f"onnxruntime {code.__version__} has no {provider}")
    from resnetkit.inference.engines.onnx_export import onnx_model

    def make() -> Runner:
        session = code.InferenceSession(onnx_model(folded(nets.bundle)), providers=[provider])
        name, pixels = session.get_inputs()[0].name, nets.pixels(batch)

        def run(times: int) -> None:
            for _ in range(times):
                session.run(None, {name: pixels})

        return run

    return Contender(name=f"ONNX Runtime, {provider}, pixels from the processor", batch=batch,
                     make=make, facts={"precision": "fp32"})  # fmt: skip


def inference(setting: Setting) -> None:
    """ResNet-50 in three precisions against torchvision's and timm's, and ONNX Runtime."""
    name, size = ("resnet18", 32) if setting.miniature else ("resnet50", 224)
    nets = Networks(name, size, setting.device)
    macs = resnetkit.explain(resnetkit.network(name), size).totals.macs
    published = published_peak(setting.device)
    table = f"The network alone: {name} at {size} pixels"
    how: dict[str, Any] = {"rounds": 5, "seconds": 0.1, "reserve": 3.0}
    batches = [256, 1, 32]
    if setting.miniature:
        how, batches = {"rounds": 2, "seconds": 0.01, "reserve": 1.0}, [2, 1]

    def keep(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if published and "images_s" in row and row["precision"] != "fp32":
                row["of_published"] = 2 * macs * row["images_s"] / 1e12 / published
            setting.write(table, **row)

    for precision in ("bf16", "fp16", "fp32"):
        for batch in batches:
            keep(race(setting, inference_contenders(nets, batch, precision, compiled=False), **how))
    try:
        for batch in batches:
            keep(race(setting, [onnx_contender(setting, nets, batch)], **how))
    except (NotPossibleError, ModuleNotFoundError) as error:
        setting.write(table, what="ONNX Runtime with CUDA", error=one_line(error))
    if not setting.miniature:  # minutes of a processor's compiler
        for batch in batches[:2]:
            contenders = inference_contenders(nets, batch, "bf16", compiled=True)
            keep(race(setting, contenders, **{**how, "reserve": 25.0})[1:])

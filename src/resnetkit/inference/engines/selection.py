"""Selects and opens an engine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from resnetkit.architecture.options import Options
from resnetkit.errors import InputError, check_installed
from resnetkit.inference.engines.conv_bn_fusion import HasWeights, folded
from resnetkit.inference.engines.engine import (
    CHOICES,
    Engine,
    EngineName,
    EngineOptions,
    Output,
    PixelType,
)
from resnetkit.inference.engines.exported_model import Exported

#: The package of an engine.
PACKAGES: dict[EngineName, str] = {
    "torch": "torch",
    "torch-compiled": "torch",
    "torch-bf16": "torch",
    "torch-fp16": "torch",
    "openvino": "openvino",
    "openvino-bf16": "openvino",
    "onnxruntime": "onnxruntime",
}
#: None of the engines is installed.
NO_ENGINE = (
    "no engine is installed; pip install 'resnetkit[openvino]', the fastest on a processor, or "
    "'resnetkit[train]', which has torch"
)
#: Device files of NVIDIA's and AMD's drivers, to detect GPUs without loading anything.
_GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def open_engine(
    what: HasWeights | Exported,
    choice: EngineName = "auto",
    output: Output = "logits",
    *,
    device: str | None = None,
    threads: int | None = None,
    pixels: PixelType = "uint8",
    intermediate: Sequence[str] = (),
) -> Engine:
    """Open the engine ``choice`` for ``what``, a bundle or an exported file.

    ``auto`` selects torch on a GPU or another ``device`` than ``cpu``, and on a CPU the first
    installed of OpenVINO, ONNX Runtime and torch; all of them compute in float32. For an exported
    file it selects the runtime of its kind. ``threads`` is the number of compute threads, by
    default one per CPU. ``pixels`` is the input dtype; exported files always take uint8.
    ``intermediate`` are paths of a bundle's layers whose values ``Engine.outputs`` returns too; it
    requires an engine that runs graphs.

    Raises ``ValueError`` for an unknown engine or device, for one that is not installed or cannot
    run the file, and for logits of a network without a classifier.
    """
    if choice not in CHOICES:
        raise InputError(f"the engine is {choice!r}; it must be one of {', '.join(CHOICES)}")
    if threads is not None and threads < 1:
        raise InputError(f"the number of threads is {threads}; give a whole number from 1")
    name, reason = chosen(what, device) if choice == "auto" else (choice, "")
    package = PACKAGES[name]
    if choice == "auto" and not installed(name) and not isinstance(what, Exported):
        raise InputError(NO_ENGINE)
    check_installed(package, f"the engine {name}")
    if package != "torch" and device not in (None, "cpu"):
        raise InputError(f"the engine {name} computes on the cpu, not on {device}; use torch")
    options = EngineOptions(
        output=output,
        features=_features(what.network.options, output),
        device=device,
        threads=threads,
        pixels=pixels,
        reason=reason,
    )
    if isinstance(what, Exported):
        _check_exported(what, name, output, pixels)
        options = replace(options, precision=what.precision, batch=what.batch, cuts=what.cuts)
    if package != "torch":
        return _runtime(name)(_graph(what, output, pixels, intermediate), options)
    from resnetkit.inference.engines.torch import open_torch

    if isinstance(what, Exported):
        from resnetkit.inference.engines.torch_export_archive import folded_in

        made = folded_in(what)
    else:
        made = folded(what)
    lower = name.removeprefix("torch-") if name in ("torch-bf16", "torch-fp16") else ""
    return open_torch(made, options, compiled=name == "torch-compiled", lower=lower)


def _features(options: Options, output: Output) -> int:
    """The length of a row."""
    return (options.num_classes or 0) if output == "logits" else options.stage_outputs[-1]


def installed(name: EngineName) -> bool:
    """Whether the package of an engine is installed."""
    return find_spec(PACKAGES[name]) is not None


def _graph(
    what: HasWeights | Exported, output: Output, pixels: PixelType, intermediate: Sequence[str]
) -> bytes | Path:
    if isinstance(what, Exported):
        return what.path
    from resnetkit.inference.engines.onnx_export import onnx_model

    made = folded(what, unfused=intermediate or None)
    return onnx_model(made, output=output, pixels=pixels, intermediate=intermediate)


def _runtime(name: EngineName) -> Callable[..., Engine]:
    if name.startswith("openvino"):
        from resnetkit.inference.engines.openvino import OpenVINO

        return partial(OpenVINO, bf16=name == "openvino-bf16")
    from resnetkit.inference.engines.onnxruntime import ONNXRuntime

    return ONNXRuntime


def _check_exported(what: Exported, name: EngineName, output: Output, pixels: PixelType) -> None:
    if pixels != "uint8":
        raise InputError(f"{what.path} takes uint8 pixels, not {pixels}; give the bundle")
    if name not in what.engines:
        raise InputError(
            f"{what.path} runs on {' or '.join(what.engines)}, not on {name}; export it "
            "for that engine, or give the bundle"
        )
    if output != what.output:
        raise InputError(f"{what.path} outputs {what.output}, not {output}; give its bundle")


def chosen(
    what: HasWeights | Exported | None = None, device: str | None = None
) -> tuple[EngineName, str]:
    """The engine that ``auto`` selects on this machine, and a short reason."""
    if isinstance(what, Exported):
        usual = what.engines
        there = [name for name in usual if installed(name)]
        return (there or usual)[0], f"it runs {what.kind} files"
    if device not in (None, "cpu"):
        return "torch", f"the engine for {device}"
    if device is None and on_gpu():
        return "torch", "the engine for the GPU"
    order: tuple[EngineName, ...] = ("openvino", "onnxruntime")
    there = [name for name in order if installed(name)]
    if there:
        return there[0], "the fastest installed one for a CPU in float32"
    return "torch", "the only one installed; pip install 'resnetkit[openvino]' for a faster one"


def on_gpu() -> bool:
    """Whether torch has a GPU; torch is only imported if there is a driver."""
    if not installed("torch"):
        return False
    if not any(Path(place).exists() for place in _GPUS) and sys.platform != "win32":
        return False
    from resnetkit.inference.engines.torch import device_named

    return device_named(None) != "cpu"

"""What resnetkit finds on this machine, for a bug report: versions, processor, engines, caches."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from resnetkit.errors import EXTRAS
from resnetkit.files import cache_folder
from resnetkit.inference.engines.engine import available
from resnetkit.inference.engines.selection import chosen, installed
from resnetkit.version import __version__

#: The distribution of a package that has another name.
_DISTRIBUTIONS = {
    "grpc": "grpcio",
    "sklearn": "scikit-learn",
    "mlflow": "mlflow-skinny",
    "faiss": "faiss-cpu",
    "opentelemetry": "opentelemetry-sdk",
}
#: The optional packages by the names of their distributions, and the extra that has them.
PACKAGES = {_DISTRIBUTIONS.get(name, name): extra for name, extra in EXTRAS.items()}
#: Packages of every installation.
BASE = ("numpy", "pillow", "ml_dtypes", "rich", "jinja2")
#: Instruction sets that engines choose their code by, as /proc/cpuinfo names them.
INSTRUCTIONS = (
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """This machine, as ``resnetkit doctor`` prints it.

    ``packages`` has None for what is not installed. ``memory`` is in bytes, None where it is not
    known; ``processors`` are those that this process may use. ``engine`` is what ``auto`` takes,
    None where there is none; ``training`` is what ``precision="auto"`` comes to. ``advice`` says
    what would make this machine faster.
    """

    versions: Mapping[str, str]
    packages: Mapping[str, str | None]
    processor: str
    instructions: tuple[str, ...]
    processors: int
    memory: int | None
    gpus: tuple[str, ...]
    variables: Mapping[str, str]
    caches: Mapping[str, str]
    engine: str | None
    engine_reason: str
    training: str
    advice: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def environment() -> Environment:
    """Look at this machine. torch is loaded where it is installed, to ask it for GPUs."""
    packages = {name: _version(name) for name in (*BASE, *PACKAGES)}
    flags, processor = _processor()
    instructions = tuple(name for name in INSTRUCTIONS if name in flags)
    gpus, training = _torch() if installed("torch") else ((), "torch is not installed")
    engine, reason = chosen()
    there = installed(engine)
    return Environment(
        versions={
            "resnetkit": __version__,
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        packages=packages,
        processor=processor,
        instructions=instructions,
        processors=available(),
        memory=_memory(),
        gpus=gpus,
        variables={
            name: value
            for name, value in sorted(os.environ.items())
            if name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "CUDA_VISIBLE_DEVICES")
        },
        caches={
            "resnetkit": str(cache_folder()),
            "huggingface": os.environ.get("HF_HOME", str(Path.home() / ".cache" / "huggingface")),
        },
        engine=engine if there else None,
        engine_reason=reason if there else "no engine is installed",
        training=training,
        advice=tuple(_advice(packages, instructions, gpus)),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> tuple[set[str], str]:
    """The flags and the name of the processor; no flags where the system does not list them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set(), platform.processor() or platform.machine()
    fields = dict(reversed([_field(line) for line in lines]))
    flags = fields.get("flags") or fields.get("Features") or ""
    return set(flags.split()), fields.get("model name") or platform.machine()


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _torch() -> tuple[tuple[str, ...], str]:
    """The GPUs that torch finds, and what training computes in."""
    import torch

    from resnetkit.training.precision import has_bf16

    device = "cuda" if torch.cuda.is_available() else "cpu"
    what = "GPU" if device == "cuda" else "processor"
    choices = [
        "bf16 if its steps are measured faster, at the first run"
        if has_bf16(device)
        else f"fp32: this {what} has no fast bf16"
    ]
    gpus: list[str] = []
    if device == "cuda":
        count = torch.cuda.device_count()
        gpus = [gpu_line(torch.cuda.get_device_properties(number)) for number in range(count)]
        tf32 = "TF32" if torch.backends.cudnn.allow_tf32 else "float32"
        choices += [
            f"fp32 has convolutions in {tf32}",
            "channels last",
            "batches copied ahead from pinned memory",
            "a fused optimizer",
            "deterministic algorithms",
        ]
    return tuple(gpus), f"{device}, {'; '.join(choices)}"


def gpu_line(properties: Any) -> str:
    """A GPU as torch describes it: name, memory, compute capability and multiprocessors."""
    import torch

    return (
        f"{properties.name}, {properties.total_memory / (1 << 30):.0f} GiB, compute capability "
        f"{properties.major}.{properties.minor}, {properties.multi_processor_count} "
        f"multiprocessors, CUDA {torch.version.cuda}"
    )


def _advice(
    packages: Mapping[str, str | None], instructions: tuple[str, ...], gpus: tuple[str, ...]
) -> list[str]:
    found = []
    if not packages["openvino"] and not gpus:
        found.append("pip install 'resnetkit[openvino]': the fastest engine on a processor")
    if not packages["simplejpeg"]:
        found.append("pip install 'resnetkit[fast]': JPEG files are decoded faster")
    if not packages["torch"]:
        found.append("pip install 'resnetkit[train]': predict resizes 64 images or more faster")
    vnni = {"avx512_vnni", "avx_vnni", "amx_int8"} & set(instructions)
    if vnni and not gpus:
        found.append(
            "export a bundle in int8 (resnetkit export --precision int8): this CPU has "
            f"instructions for it ({', '.join(sorted(vnni))})"
        )
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) < available():
        found.append(f"OMP_NUM_THREADS is {threads}; torch uses no more of {available()} CPUs")
    if sys.platform == "linux" and Path("/dev/nvidiactl").exists() and packages["torch"]:
        if not gpus:
            found.append(
                "there is an NVIDIA driver, and torch finds no GPU: install torch for CUDA"
            )
    return found

"""An exported model: a graph file and its metadata.

The graph is data: it is only run by OpenVINO and ONNX Runtime, which execute built-in operations
only. torch's ``.pt2`` is different, because torch unpickles it; so its program is not loaded. Only
its weights are read, and the network is built from its description.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from resnetkit.architecture.network import Network
from resnetkit.errors import InputError, check, listed, mapping, one_of, optional, parsed, whole
from resnetkit.errors import text as a_text
from resnetkit.files import sha256_of
from resnetkit.inference.engines.engine import EngineName, Output
from resnetkit.preprocess import Preprocess

ExportFormat = Literal["onnx", "openvino", "torch-export"]
#: The engines for each kind of file, the default first.
ENGINES: Mapping[ExportFormat, tuple[EngineName, ...]] = {
    "onnx": ("onnxruntime", "openvino", "openvino-bf16"),
    "openvino": ("openvino", "openvino-bf16"),
    "torch-export": ("torch", "torch-compiled", "torch-bf16", "torch-fp16"),
}
PRECISIONS = ("fp32", "fp16", "int8")
#: The document version that is written, and the newest that is read; and its key.
VERSION, DOCUMENT = 1, "resnetkit"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exported:
    """An exported network, usable like a bundle.

    ``batch`` is its fixed batch size, or None for any. If it ``cuts``, it takes one whole image,
    uint8 ``(1, H, W, C)``, and resizes and crops it itself.
    """

    path: Path
    kind: ExportFormat
    network: Network
    preprocess: Preprocess
    classes: tuple[str, ...]
    precision: str = "fp32"
    output: Output = "logits"
    batch: int | None = None
    cuts: bool = False
    origin: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)

    @property
    def engines(self) -> tuple[EngineName, ...]:
        """The engines that run it, the default first; bfloat16 is too coarse for cropping."""
        return tuple(
            name for name in ENGINES[self.kind] if not (self.cuts and name == "openvino-bf16")
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the file, and of the ``.bin`` file beside an OpenVINO one."""
        beside = self.path.with_suffix(".bin")
        files = [self.path, *([beside] if self.kind == "openvino" else [])]
        return " ".join(map(sha256_of, files))

    def document(self) -> str:
        """Everything but the graph, as JSON, embedded in the file."""
        return json.dumps(
            {
                "version": VERSION,
                "network": self.network.to_dict(),
                "preprocess": self.preprocess.to_dict(),
                "classes": list(self.classes),
                "precision": self.precision,
                "output": self.output,
                "batch": self.batch,
                "cuts": self.cuts,
                "origin": dict(self.origin),
                "measured": dict(self.measured),
            }
        )

    @classmethod
    def read(cls, path: Path, kind: ExportFormat, text: str | None) -> Exported:
        """The file at ``path`` with the document ``text``.

        Raises ``ValueError`` if it is missing or invalid.
        """
        if text is None:
            raise InputError(
                f"{path} was not written by resnetkit.export: it does not say how images are "
                "prepared and what its classes are; convert it with resnetkit.convert"
            )
        try:
            document = parsed(text)
            check(document, _RULES, "its")
            version = document["version"]
            if version != VERSION:
                raise InputError(f"version {version} of the document; update resnetkit")
            found = cls(
                path=path,
                kind=kind,
                network=Network.from_dict(document["network"]),
                preprocess=Preprocess.from_dict(document["preprocess"]),
                classes=tuple(document["classes"]),
                precision=document["precision"],
                output=document["output"],
                batch=document["batch"],
                cuts=document["cuts"],
                origin=dict(document["origin"]),
                measured=dict(document["measured"]),
            )
        except (InputError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{path} has an invalid description: {error}") from None
        problem = _problem(found)
        if problem:
            raise InputError(f"{path} has an invalid description: {problem}")
        return found


_RULES = {
    "version": whole(0, 1_000_000),
    **dict.fromkeys(("network", "preprocess", "origin", "measured"), mapping()),
    "classes": listed(a_text(), 1_000_000),
    "precision": one_of(*PRECISIONS),
    "output": one_of("logits", "embeddings"),
    "batch": optional(whole(1, 1 << 20)),
    "cuts": one_of(True, False),
}


def _problem(found: Exported) -> str | None:
    if len(found.classes) != (found.network.options.num_classes or 0):
        return f"{len(found.classes)} class names for {found.network.options.num_classes} classes"
    if found.cuts and found.batch != 1:
        return "a graph that crops images takes one at a time"
    return None

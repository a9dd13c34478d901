"""A model with what a server has to know about it, and its limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from resnetkit.bundle.bundle import Bundle
from resnetkit.files import utf8
from resnetkit.inference.engines.engine import Engine, available
from resnetkit.preprocess import Preprocess


def labelled(name: str, version: str) -> str:
    """``NAME``, or ``NAME@VERSION`` of another version than 1."""
    return name if version == "1" else f"{name}@{version}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServedModel:
    """An engine with its preprocessing and class names.

    ``exact`` makes pixels bit-equal to torchvision's; otherwise a faster path is used, as in
    ``predict`` from 64 images on. ``embedder`` is an engine of the same network that outputs
    embeddings, if they are served. A batch has at most ``max_batch_size`` images, by default as
    many as ``Limits`` allows. ``digest`` is that of its file. ``bundle`` is what can be looked into
    at ``/view``, if it may.
    """

    name: str
    engine: Engine
    preprocess: Preprocess
    classes: tuple[str, ...]
    network: str
    exact: bool = False
    version: str = "1"
    embedder: Engine | None = None
    max_batch_size: int | None = None
    digest: str = ""
    bundle: Bundle | None = None

    @property
    def label(self) -> str:
        """How it is named in messages and metrics; see ``labelled``."""
        return labelled(self.name, self.version)

    def to_dict(self) -> dict[str, Any]:
        """The description as JSON types."""
        return {
            "model": self.name,
            "version": self.version,
            "network": self.network,
            "sha256": self.digest or None,
            "classes": [utf8(name) for name in self.classes],
            "preprocess": self.preprocess.to_dict(),
            "exact_pixels": self.exact,
            "engine": self.engine.to_dict(),
            "embeddings": self.embedder.options.features if self.embedder else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of the server.

    A batch has at most ``max_batch_size`` images and waits ``max_queue_delay`` seconds for more; at
    most ``max_queue_size`` received images may wait. A body has at most ``max_body_bytes``, all
    bodies together ``max_total_body_bytes``, and a request ``max_files`` images. ``decode_threads``
    is the number of decoders, by default that of CPUs; none takes longer than
    ``max_decode_seconds``.
    """

    max_batch_size: int = 8
    max_queue_delay: float = 0.0
    max_queue_size: int = 256
    max_body_bytes: int = 32 << 20
    max_total_body_bytes: int = 256 << 20
    max_files: int = 64
    decode_threads: int = field(default_factory=available)
    max_decode_seconds: float = 10.0

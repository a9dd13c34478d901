"""Weights to begin with: a file that is there, or a source from which they are fetched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.errors import InputError
from resnetkit.hub.fetching import fetch
from resnetkit.hub.load_options import LoadOptions
from resnetkit.hub.loading import load_with
from resnetkit.hub.source import parse

if TYPE_CHECKING:
    from resnetkit.bundle.bundle import Bundle
    from resnetkit.hub.download import Told


def load_or_fetch(
    start: str,
    *,
    sha256: str | None = None,
    mirror: str | None = None,
    offline: bool = False,
    told: Told | None = None,
    **options: Any,
) -> Bundle:
    """The bundle of ``start``: of a file, if there is one of that name, else of a source.

    ``sha256``, ``mirror``, ``offline`` and ``told`` are about sources, as in ``fetch``; the rest is
    as in ``resnetkit.load``. Raises ``ValueError`` as these two do, and where a checksum or a
    mirror is given for a file.
    """
    if is_source(start):
        return fetch(start, sha256=sha256, mirror=mirror, offline=offline, told=told, **options)
    if not Path(start).exists():
        raise InputError(
            f"{start} does not exist, and is no source of weights; give a bundle, a checkpoint, "
            "or e.g. torchvision:resnet50"
        )
    if sha256 is not None or mirror is not None:
        raise InputError(f"{start} is a file, and --sha256 and --mirror are about sources")
    return load_with(start, LoadOptions.of(options))


def is_source(start: str) -> bool:
    """Whether it is to be fetched: no file has that name, and it has a colon as sources do."""
    return ":" in start and not Path(start).exists()


def short_name(start: str) -> str:
    """A name for a file or a source, without an ending. Raises ``ValueError`` for no source."""
    return parse(start).short if is_source(start) else Path(start).stem

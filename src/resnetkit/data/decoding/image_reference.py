"""Finds the image of a result again, without keeping its pixels in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import ref

from resnetkit.data.decoding.decode import Image


class ImageReference:
    """A path, or a weak reference to an image in memory; a copy has only the path.

    Called, it returns the image, or None if it is gone, or was bytes.
    """

    __slots__ = ("_found", "_path")

    def __init__(self, image: Image | None) -> None:
        self._path = image if isinstance(image, str | Path) else None
        # Bytes have no weak references.
        kept = image is not None and self._path is None and not isinstance(image, bytes)
        self._found = ref(image) if kept else None

    def __call__(self) -> Image | None:
        return self._path if self._found is None else self._found()

    def __reduce__(self) -> tuple[Any, ...]:
        return ImageReference, (self._path,)

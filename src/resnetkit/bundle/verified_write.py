"""Writes weights in a dialect, and verifies the file before renaming it.

The file is written beside the target, read back and run on the same images as the original network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from resnetkit.architecture.network import Network
from resnetkit.architecture.options import option_names
from resnetkit.bundle.equivalence import OutputComparison, answers, compare, images, tolerance
from resnetkit.checkpoints import writing
from resnetkit.checkpoints.dialect import Dialect
from resnetkit.checkpoints.identification import identify
from resnetkit.checkpoints.identity_norms import given_norms, with_norms
from resnetkit.errors import InputError
from resnetkit.files import atomic
from resnetkit.formats.opening import LazyArrays

Array = npt.NDArray[Any]


class File(Protocol):
    """How a kind of file is written, read back, and amended after verification.

    ``folds`` means that norms are folded, ``added`` describes other changes.
    """

    folds: bool
    added: Mapping[str, Any]
    tensors: int

    def check_ending(self, target: Path) -> None:
        """Raise ``InputError`` for an invalid file name."""

    def write(self, path: Path) -> None:
        """Write the file without the verification result."""

    def read_back(self, path: Path) -> tuple[Network, Mapping[str, Array]]:
        """The network in the file, and its tensors by our names, read one at a time."""

    def amend(self, path: Path, origin: Mapping[str, Any]) -> None:
        """Add the origin and verification to the file, if its format has a place for it."""


def deliver(
    file: File,
    target: Path,
    to: str,
    *,
    network: Network,
    arrays: Mapping[str, Array],
    origin: Mapping[str, Any],
    size: int,
) -> tuple[dict[str, Any], OutputComparison]:
    """Write ``file`` to ``target`` if its outputs match ``network`` on images of ``size``.

    Returns the origin including the verification, and the verification. Raises ``InputError`` for a
    wrong suffix and if the outputs differ; ``target`` is then unchanged.
    """
    file.check_ending(target)
    with atomic(target) as temporary:
        file.write(temporary)
        pixels = images(network.options.in_chans, size)
        expected = answers(network, arrays, pixels)
        found = compare(expected, answers(*file.read_back(temporary), pixels))
        _check_proof(target, arrays, found, file.folds)
        origin = {**origin, **file.added, "converted_to": to, "proof": found.to_dict()}
        file.amend(temporary, origin)
    return origin, found


def _check_proof(
    target: Path, arrays: Mapping[str, Array], found: OutputComparison, folds: bool
) -> None:
    """Raise ``InputError`` unless the outputs are equal within tolerance."""
    if not math.isfinite(found.largest):
        raise InputError(
            f"{target} is not written: the input's own logits are not finite, so it cannot "
            "be verified; resnetkit.identify lists the affected tensors"
        )
    allowed = max(tolerance(array.dtype.name, folded=folds) for array in arrays.values())
    if found.relative > allowed:
        raise InputError(
            f"{target} is not written: read back, the logits differ by {found.difference:.3g}, "
            f"which is {found.relative:.2g} of the largest; {allowed:.0e} is allowed"
        )


class DialectFile:
    """Another framework's file of ``network`` with ``arrays``, from ``origin``.

    ``renames`` says whether its tensors are others than ``arrays``.
    """

    def __init__(
        self,
        target: Path,
        spoken: Dialect,
        *,
        network: Network,
        arrays: Mapping[str, Array],
        origin: Mapping[str, Any],
    ) -> None:
        self._spoken, self._origin = spoken, origin
        self._kind = writing.ending(target)
        self._network = with_norms(network, spoken)
        normed = self._network is not network
        if normed:
            arrays = given_norms(self._network, dict(arrays))
        self._theirs = spoken.write(self._network, arrays)
        self.tensors = len(self._theirs)
        self.renames = normed or spoken.folds or _shapes(self._theirs) != _shapes(arrays)
        self.folds = spoken.folds or normed
        self.added: Mapping[str, Any] = (
            {"norms": "of mean 0 and scale 1 added; there were none"} if normed else {}
        )

    def check_ending(self, target: Path) -> None:
        writing.check_ending(target, self._spoken)

    def write(self, path: Path) -> None:
        writing.write(path, self._kind, self._theirs, self._spoken, self._network, self._origin)

    def read_back(self, path: Path) -> tuple[Network, Mapping[str, Array]]:
        """The network in the file, with the options that tensors do not show."""
        options = self._network.options
        facts = {name: getattr(options, name) for name in option_names() if name != "num_classes"}
        found = identify(path)
        reading = found.reading.settle(**facts)
        reading.check()
        if reading.network.options != options:
            raise InputError(f"read back, it is a different network: {reading.network.name}")
        theirs = LazyArrays(found.container.read, found.container.arrays)
        names = [*reading.names, *reading.created]
        ours = LazyArrays(partial(reading.ours, arrays=theirs), names)
        return reading.network, ours

    def amend(self, path: Path, origin: Mapping[str, Any]) -> None:
        writing.amend(path, self._kind, origin)


def _shapes(arrays: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}

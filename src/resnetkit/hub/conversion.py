"""Converts a checkpoint or a bundle to another framework's file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy.typing as npt

from resnetkit.architecture.network import Network
from resnetkit.bundle.bundle import DIGEST, DOCUMENT, Bundle
from resnetkit.bundle.equivalence import IMAGES
from resnetkit.bundle.verified_write import DialectFile, deliver
from resnetkit.errors import InputError, check_installed
from resnetkit.formats import safetensors_writer
from resnetkit.formats.opening import LazyArrays, open_container
from resnetkit.hub.framework_folder import FOLDERS, deliver_folder
from resnetkit.hub.load_options import LoadOptions, numbered
from resnetkit.hub.loading import load_checkpoint

#: The target that is our own format.
BUNDLE = "bundle"

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Converted:
    """A conversion and its verification: the file was read back and compared with the input.

    ``difference`` is the largest absolute difference of the logits (of the pooled features without
    a classifier) over ``images`` images, ``largest`` the largest logit.
    """

    source: Path
    target: Path
    dialect: str
    bundle: Bundle
    tensors: int
    images: int
    difference: float
    largest: float

    def to_dict(self) -> dict[str, Any]:
        """The conversion as JSON types."""
        return {
            "source": str(self.source),
            "target": str(self.target),
            "to": self.dialect,
            "network": self.bundle.network.name,
            "tensors": self.tensors,
            "origin": dict(self.bundle.origin),
            "proof": {
                "images": self.images,
                "difference": self.difference,
                "largest": self.largest,
            },
        }


def convert(
    source: str | Path | Bundle,
    target: str | Path,
    *,
    to: str = BUNDLE,
    num_classes: int | None = None,
    verify: bool = False,
    **options: Any,
) -> Converted:
    """Convert a checkpoint or a bundle to the dialect ``to``, and verify ``target``.

    ``options`` are those of ``resnetkit.load``; weights keep their dtype unless ``dtype`` is given.
    ``num_classes`` replaces the classifier by a new, untrained one. ``verify`` also runs the source
    in its own framework.

    With ``to`` timm or transformers, a ``target`` without a suffix becomes a folder that the
    framework loads: ``model.safetensors`` with the configuration of the network, its classes and
    its preprocessing.

    ``target`` is only replaced by a verified file. Raises ``ValueError`` as ``load`` does, for a
    network that the framework does not support, for another suffix than the framework's, and if the
    file read back differs; ``target`` is then unchanged.

    >>> done = resnetkit.convert("theirs.pth", "timm.pth", to="timm")
    >>> done.difference <= 1e-5 * done.largest
    True
    """
    target = Path(target)
    if isinstance(source, Bundle):
        bundle, place = source, Path("bundle")
    else:
        place = Path(source)
        bundle = load_checkpoint(place, LoadOptions.of({"dtype": None, **options}))
    if verify:
        check_installed("torch", "verification")
        from resnetkit.hub.source_framework import verify as verify_source

        verified = verify_source(place, bundle, **_reading(options))
        bundle = replace(bundle, origin={**bundle.origin, "verified_with": verified.to_dict()})
    if num_classes is not None:
        bundle = bundle.with_new_head(numbered(num_classes))
    file: DialectFile | _BundleFile
    if to in FOLDERS and not target.suffix:
        file, origin, found = deliver_folder(bundle, target, to)
    else:
        file = _BundleFile(bundle) if to == BUNDLE else bundle.file_of(target, to)
        origin, found = deliver(
            file,
            target,
            to,
            network=bundle.network,
            arrays=bundle.numbers,
            origin=bundle.origin,
            size=bundle.preprocess.size,
        )
    return Converted(
        source=place,
        target=target,
        dialect=to,
        bundle=replace(bundle, origin=origin),
        tensors=file.tensors,
        images=IMAGES,
        difference=found.difference,
        largest=found.largest,
    )


def _reading(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in ("prefix", "ema") if name in options}


class _BundleFile:
    """Write our own format, with all known attributes."""

    folds = False
    added: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._arrays = bundle.numbers
        self.tensors = len(self._arrays)

    def check_ending(self, target: Path) -> None:
        if target.suffix.lower() != ".safetensors":
            raise InputError(f"{target} must be a bundle; give a name that ends in .safetensors")

    def write(self, path: Path) -> None:
        header = {DOCUMENT: self._bundle.document(), DIGEST: "0" * 64}
        safetensors_writer.write(path, self._arrays, header)

    def read_back(self, path: Path) -> tuple[Network, Mapping[str, Array]]:
        container = open_container(path)
        document = json.loads(container.facts["metadata"][DOCUMENT])
        arrays = LazyArrays(container.read, container.arrays)
        return Network.from_dict(document["network"]), arrays

    def amend(self, path: Path, origin: Mapping[str, Any]) -> None:
        safetensors_writer.amend(path, replace(self._bundle, origin=origin).metadata())

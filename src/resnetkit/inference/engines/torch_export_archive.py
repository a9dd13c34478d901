"""Reads the weights of an exported ``.pt2`` without loading it as a program.

``torch.export.load`` unpickles, and looks up the graph's functions by name in torch's modules. Here
the zip file's weights are read as plain numbers (``torch/export/pt2_archive``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from resnetkit.architecture.parameters import tensors
from resnetkit.formats import zip_archive
from resnetkit.formats.container import UnfitError, as_input_errors, json_of, short, size_of
from resnetkit.formats.file_window import read_array
from resnetkit.formats.zip_archive import Entry
from resnetkit.inference.engines.conv_bn_fusion import Array, Folded, folded_network
from resnetkit.inference.engines.exported_model import Exported

#: The name of the document in the archive's folder of extra files.
EXTRA = "resnetkit.json"
_CONFIG = "data/weights/model_weights_config.json"
_DTYPES = {"fp32": "float32", "fp16": "float16"}


def document_in(path: Path) -> str | None:
    """The document in a ``.pt2``, or None. Raises ``UnfitError`` if it is not an archive."""
    for name, entry in zip_archive.entries(path).items():
        if name.partition("/")[2] == f"extra/{EXTRA}":
            return zip_archive.text(path, entry, "description").decode(errors="replace")
    return None


def folded_in(exported: Exported) -> Folded:
    """The network of a ``.pt2``. Raises ``ValueError`` if its weights do not match."""
    with as_input_errors(exported.path):
        found = zip_archive.entries(exported.path)
        network = folded_network(exported.network)
        root = next(iter(found)).partition("/")[0]
        if f"{root}/{_CONFIG}" not in found:
            raise UnfitError("has no list of weights; export it again")
        listing = json_of(
            zip_archive.text(exported.path, found[f"{root}/{_CONFIG}"], "list"), "list"
        )
        places = listing.get("config") if isinstance(listing, dict) else None
        if not isinstance(places, dict):
            raise UnfitError("has a list of weights that cannot be read; export it again")

        def read(name: str, dtype: str, shape: tuple[int, ...]) -> Array:
            entry = _entry(found, root, places, name)
            if entry.length != size_of(dtype, shape):
                raise UnfitError(f"has {entry.length} bytes for {short(name)}, a wrong length")
            return read_array(exported.path, entry.offset, dtype, shape)

        channels = network.options.in_chans
        dtype = _DTYPES.get(exported.precision, "float32")
        return Folded(
            network=network,
            arrays={
                name: read(f"network.{name}", dtype, shape)
                for name, shape in tensors(network).items()
            },
            mean=read("mean", "float32", (1, channels, 1, 1)).reshape(channels).astype(np.float32),
            size=exported.preprocess.size,
        )


def _entry(found: dict[str, Entry], root: str, places: dict[str, Any], name: str) -> Entry:
    place = places.get(name)
    if not isinstance(place, dict) or place.get("use_pickle") is not False:
        raise UnfitError(f"has no plain numbers for {short(name)}; export it again")
    entry = found.get(f"{root}/data/weights/{place.get('path_name')}")
    if entry is None:
        raise UnfitError(f"lacks the numbers of {short(name)}; export it again")
    return entry

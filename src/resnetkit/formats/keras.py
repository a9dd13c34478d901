"""``.keras``: a zip file with ``config.json``, ``metadata.json`` and ``model.weights.h5``.

The layout is that of ``keras/src/saving/saving_lib.py``. The configuration stays JSON and is never
turned into layers, so a Lambda layer in it stays text.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from resnetkit.formats import hdf5, zip_archive
from resnetkit.formats.container import Container, UnfitError, json_of

_WEIGHTS = "model.weights.h5"
_FACTS = {"config": "config.json", "metadata": "metadata.json"}


def claims(head: bytes, path: Path) -> bool:
    return zip_archive.is_zip(head) and not {_WEIGHTS, *_FACTS.values()}.isdisjoint(
        zip_archive.entries(path)
    )


def open_file(path: Path) -> Container:
    entries = zip_archive.entries(path)
    weights = entries.get(_WEIGHTS)
    if weights is None:
        raise UnfitError(f"is a Keras file without {_WEIGHTS}; save the model again in one file")
    facts = {
        key: json_of(zip_archive.text(path, entries[name], name), name)
        for key, name in _FACTS.items()
        if name in entries
    }
    found = hdf5.open_part(path, weights.offset, weights.length, "keras")
    return replace(found, facts={**found.facts, **facts})

"""Sharded weights, as written by ``save_pretrained``: an index, and the shards beside it.

``model.safetensors.index.json`` and ``pytorch_model.bin.index.json`` have a ``weight_map`` from the
name of each tensor to the name of its file (transformers, accelerate).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.formats.container import MOST_TEXT, Container, UnfitError, json_of, listed, short

if TYPE_CHECKING:
    import numpy as np

#: The suffix of an index.
INDEX = ".index.json"
#: Maximum number of shards.
_MOST_SHARDS = 1000


def open_index(path: Path, open_one: Callable[[Path], Container]) -> Container:
    """The tensors of all shards in an index. Only files in its folder are opened."""
    if path.stat().st_size > MOST_TEXT:
        raise UnfitError(f"is an index of more than {MOST_TEXT} bytes, too many for a network")
    document = json_of(path.read_bytes(), "index")
    places = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(places, dict) or not places:
        raise UnfitError("is an index without a weight_map; get it again")
    files = list(dict.fromkeys(map(str, places.values())))
    if len(files) > _MOST_SHARDS:
        raise UnfitError(f"lists {len(files)} files, too many for a network")
    shards: dict[str, Container] = {}
    for file in files:
        if Path(file).name != file or file in (".", ".."):
            raise UnfitError(f"lists {short(file)}, which is not a plain file name")
        if not (path.parent / file).is_file():
            raise UnfitError(f"lists {short(file)}, which is not beside it; get that too")
        shards[file] = open_one(path.parent / file)
    for name, file in places.items():
        if name not in shards[str(file)].arrays:
            raise UnfitError(f"says that {short(name)} is in {short(file)}, but it is not")

    def reader(name: str) -> np.ndarray[Any, Any]:
        return shards[str(places[name])].read(name)

    return Container(
        path=path,
        kind=f"{next(iter(shards.values())).kind}-shards",
        arrays=listed(shards[str(file)].arrays[name] for name, file in places.items()),
        facts={},
        reader=reader,
    )

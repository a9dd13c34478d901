"""``.pt2``: the zip file of ``torch.export.save`` since torch 2.8.

``NAME/data/weights/*_weights_config.json`` lists the parameters and buffers, each with a file of
values beside it (``torch/export/pt2_archive``). The program is ignored.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.formats import zip_archive
from resnetkit.formats.container import ArrayInfo, Container, UnfitError, json_of, listed, short
from resnetkit.formats.unpickler.arrays import Storage, Tensor
from resnetkit.formats.zip_archive import Entry

if TYPE_CHECKING:
    import numpy as np

#: The dtype codes of ``torch/_export/serde/schema.py``.
_TYPES = {
    **{1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32"},
    **{8: "float64", 12: "bool", 13: "bfloat16"},
}
_CONFIG = "_weights_config.json"
_OLD = "serialized_state_dict.pt"


def claims(head: bytes, path: Path) -> bool:
    return zip_archive.is_zip(head) and any(
        name.endswith((_CONFIG, _OLD)) for name in zip_archive.entries(path)
    )


def open_file(path: Path) -> Container:
    entries = zip_archive.entries(path)
    configs = [name for name in entries if name.endswith(_CONFIG)]
    if not configs:
        raise UnfitError(
            "is an export of a torch before 2.8; load it there with torch.export.load and save its "
            "state_dict"
        )
    if len(configs) > 1:
        raise UnfitError(f"holds {len(configs)} exported programs; export one by itself")
    order = next((e for name, e in entries.items() if name.endswith("/byteorder")), None)
    if order is not None and zip_archive.text(path, order, "byteorder") != b"little":
        raise UnfitError("was written on a big-endian machine; export it on a little-endian one")
    folder = configs[0].rpartition("/")[0]
    document = json_of(
        zip_archive.text(path, entries[configs[0]], "weights' list"), "weights' list"
    )
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict):
        raise UnfitError("has a list of weights of an unknown form; export it again")
    found = {name: _tensor(name, spec, folder, entries) for name, spec in config.items()}
    infos = [ArrayInfo(path=(name,), shape=t.shape, dtype=t.dtype) for name, t in found.items()]

    def reader(name: str) -> np.ndarray[Any, Any]:
        return found[name].load(path)

    return Container(path=path, kind="torch-export", arrays=listed(infos), facts={}, reader=reader)


def _tensor(name: str, spec: Any, folder: str, entries: dict[str, Entry]) -> Tensor:
    try:
        meta = spec["tensor_meta"]
        dtype, key = _TYPES[meta["dtype"]], spec["path_name"]
        shape, strides = ([size["as_int"] for size in meta[of]] for of in ("sizes", "strides"))
        entry, start = entries[f"{folder}/{key}"], meta["storage_offset"]["as_int"]
        if spec.get("use_pickle") or any(type(n) is not int for n in (*shape, *strides, start)):
            raise TypeError
    except (KeyError, TypeError, IndexError):
        text = short(json.dumps(spec)[:60])
        raise UnfitError(
            f"lists {short(name)} in an unknown form: {text}; export it again"
        ) from None
    storage = Storage(key=key, dtype="uint8", count=entry.length, offset=entry.offset)
    return Tensor(storage, dtype, start, tuple(shape), tuple(strides))

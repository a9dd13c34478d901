"""``.pkl``: pickled numpy arrays, as detectron2 and Caffe2 publish them; protocols 0 to 5.

Model zoos of Python 2 are read as with ``encoding="latin1"``, which is what detectron2's
``DetectionCheckpointer`` does.
"""

from __future__ import annotations

import re
from pathlib import Path

from resnetkit.formats.container import Container, UnfitError
from resnetkit.formats.file_window import Window
from resnetkit.formats.unpickler.allowlist import ALLOWED
from resnetkit.formats.unpickler.opcodes import unpickle
from resnetkit.formats.unpickler.tree import Tree

#: Pickles have a header from protocol 2 on; older ones begin with a container or a global.
_BEGINS = re.compile(
    rb"\x80[\x02-\x05]|\([dlpt]|[\]}][.qrp(]|c[A-Za-z_][\w.]*\r?\n[A-Za-z_]|\(i[a-z_]"
)


def claims(head: bytes, _path: Path) -> bool:
    return _BEGINS.match(head) is not None


def open_file(path: Path) -> Container:
    with path.open("rb") as file:
        window = Window(file)
        root = unpickle(window, ALLOWED)
        if window.left:
            raise UnfitError(f"has {window.left} bytes after its pickle; get it again")
    return Tree(root).container(path, "pickle")

"""onnxruntime-web, which runs ONNX graphs in browsers: fetched from npm once, and cached."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

from resnetkit.errors import InputError
from resnetkit.hub.download import cached, download
from resnetkit.hub.download_cache import OFFLINE, is_offline, place

VERSION = "1.30.0"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
#: npm's own variable for another registry, and the public one.
REGISTRY, PUBLIC = "npm_config_registry", "https://registry.npmjs.org/"
#: The names of the parts in a page, and their files in the package.
FILES = {
    "ort-script": "package/dist/ort.wasm.min.js",
    "ort-glue": "package/dist/ort-wasm-simd-threaded.mjs",
    "ort-wasm": "package/dist/ort-wasm-simd-threaded.wasm",
}


def package() -> Path:
    """The package's file in the cache, downloaded if it is not there.

    Raises ``InputError`` if it cannot be had.
    """
    registry = os.environ.get(REGISTRY) or PUBLIC
    name = f"onnxruntime-web-{VERSION}.tgz"
    url = f"{registry.rstrip('/')}/onnxruntime-web/-/{name}"
    target = place(url, "npm")
    if cached(target, SHA256) is None:
        if is_offline():
            raise InputError(
                f"web requires {name} from npm, and {OFFLINE} forbids the network; place the file "
                f"at {target}, from {url}"
            )
        download(url, target, sha256=SHA256)
    return target


def runtime() -> Mapping[str, bytes]:
    """The parts of the runtime by their names in ``FILES``."""
    found = {}
    with tarfile.open(package()) as archive:
        for name, path in FILES.items():
            member = archive.extractfile(path)
            assert member is not None, path  # its checksum is known
            found[name] = member.read()
    return found

"""onnxruntime-web as npm has it: `make` gets it with the other packages of `web/`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resnetkit.exporters import web_runtime

RUNTIME = (
    Path(__file__).parents[1]
    / f"web/node_modules/.runtime/onnxruntime-web-{web_runtime.VERSION}.tgz"
)


@contextmanager
def runtime_cached(cache: Path) -> Iterator[None]:
    """A cache of downloads that has the package, and no network."""
    assert RUNTIME.is_file(), f"{RUNTIME} is missing; run make web"
    (cache / "npm").mkdir(parents=True)
    shutil.copy(RUNTIME, cache / "npm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESNETKIT_CACHE", str(cache))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield

"""onnxruntime-web as npm has it, in a cache of the test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from resnetkit.exporters import web_runtime

NPM = Path(__file__).parents[2] / "web/node_modules/.runtime"


@pytest.fixture(scope="session")
def npm_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's file, which `make` gets with the other packages of `web/`."""
    found = NPM / f"onnxruntime-web-{web_runtime.VERSION}.tgz"
    assert found.is_file(), f"{found} is missing; run make web"
    return found


@pytest.fixture
def page_cache(npm_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that has the package, and no network."""
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    place = tmp_path / "cache/npm"
    place.mkdir(parents=True)
    shutil.copy(npm_package, place)

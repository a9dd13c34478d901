"""A server, an empty cache, and no patience between tries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resnetkit.hub import download
from server import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches of resnetkit and of huggingface_hub in the test's folder; the former is returned."""
    import huggingface_hub.constants

    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(download, "PAUSE", 0.01)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"

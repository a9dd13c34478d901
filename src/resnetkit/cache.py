"""The folder in which things are kept from one run to the next."""

from __future__ import annotations

import os
from pathlib import Path


def folder() -> Path:
    """``RESNETKIT_CACHE``, else ``resnetkit`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    if own := os.environ.get("RESNETKIT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resnetkit"

"""The download cache, and the offline switch."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from resnetkit.errors import InputError
from resnetkit.files import cache_folder

#: Set to 1, nothing is downloaded; huggingface_hub's own switch.
OFFLINE = "HF_HUB_OFFLINE"


def is_offline() -> bool:
    """Whether the environment forbids the network."""
    return os.environ.get(OFFLINE, "").upper() in ("1", "ON", "YES", "TRUE")


def name_of(url: str) -> str:
    """The name of the file at ``url``."""
    return Path(unquote(urlsplit(url).path)).name or "download"


def place(url: str, group: str | None = None) -> Path:
    """Where the file of ``url`` is kept; its folder is there.

    A ``group`` is for files whose names tell them apart wherever they come from; other addresses
    have a folder each. Raises ``InputError`` for a cache that cannot be written.
    """
    below = group or f"downloads/{hashlib.sha256(url.encode()).hexdigest()[:16]}"
    found = cache_folder() / below
    try:
        found.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make {found}: {error.strerror}; set RESNETKIT_CACHE to a folder to write to"
        ) from None
    return found / name_of(url)

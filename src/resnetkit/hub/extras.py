"""Imports the packages of the ``fetch`` extra on demand."""

from __future__ import annotations

import importlib
from typing import Any

from resnetkit.errors import InputError


def need(name: str) -> Any:
    """Import the module ``name``; raises an ``InputError`` that says what to install."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.split(".", maxsplit=1)[0]
        raise InputError(
            f"fetching requires {package}, which is not installed; pip install 'resnetkit[fetch]'"
        ) from None

"""Parses sources of weights: ``torchvision:...``, ``hf:...`` and ``https://...``.

They are fetched and pushed to by ``hub``, on a higher floor, which ``resnetkit/__init__.py``
connects.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from resnetkit.errors import InputError

_EXAMPLES = "torchvision:resnet50, hf:timm/resnet50.a1_in1k or https://..."
#: Names of the local host, a trustworthy origin (W3C Secure Contexts).
LOOPBACK = ("127.0.0.1", "::1", "localhost")
#: Two letters or more, as one is a drive of Windows.
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:", re.ASCII | re.IGNORECASE)
_PART = r"[A-Za-z0-9][\w.-]*"
_HUB = re.compile(rf"(?P<name>{_PART}/{_PART})(?:/(?P<file>[^@]+))?")


def _unconnected(_: str) -> Any:
    raise RuntimeError("resnetkit/__init__.py connects it")


#: Imports the function of ``resnetkit`` of this name: ``load`` or ``push_to_hub``.
function: Callable[[str], Any] = _unconnected


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source of weights.

    ``name`` is a network of torchvision, a repository of the Hugging Face Hub, or a URL;
    ``version`` a weight set or a revision, ``file`` a file of the repository.
    """

    kind: Literal["torchvision", "hf", "url"]
    name: str
    version: str | None = None
    file: str | None = None

    @property
    def short(self) -> str:
        """A file name for this source, without a suffix."""
        if self.kind == "url":
            return PurePosixPath(unquote(urlsplit(self.name).path)).stem or "weights"
        return self.name.rpartition("/")[2]

    @property
    def text(self) -> str:
        """The source as it is recorded: what ``parse`` takes, of a URL what is ``public``."""
        if self.kind == "url":
            return public(self.name)
        file = f"/{self.file}" if self.file else ""
        return f"{self.kind}:{self.name}{file}" + (f"@{self.version}" if self.version else "")


def parse(text: str) -> Source:
    """Parse a source. Raises ``InputError`` if it is invalid."""
    kind, colon, rest = text.partition(":")
    if colon and kind.lower() in ("http", "https"):
        if not urlsplit(text).hostname or text.endswith("/"):
            raise InputError(f"{text} is not the URL of a file; give e.g. https://host/net.pth")
        return Source(kind="url", name=text)
    name, at, version = rest.partition("@")
    if at and not version:
        raise InputError(f"{text} has nothing after the @; leave it out or name a version")
    if kind == "torchvision" and name:
        return Source(kind="torchvision", name=name, version=version or None)
    if kind == "hf":
        found = _HUB.fullmatch(name)
        if found is None:
            raise InputError(f"{text} is not a repository; give e.g. hf:timm/resnet50.a1_in1k")
        return Source(kind="hf", name=found["name"], version=version or None, file=found["file"])
    raise InputError(f"{text!r} is not a source of weights; give e.g. {_EXAMPLES}")


def is_source(start: str | Path) -> bool:
    """Whether to fetch it: it begins as sources do, and no file has that name."""
    return _SCHEME.match(str(start)) is not None and not Path(start).exists()


def short_name(start: str | Path) -> str:
    """The name of a file or a source, without suffix. Raises ``InputError`` if it is neither."""
    return parse(str(start)).short if is_source(start) else Path(start).stem


def public(url: str) -> str:
    """The URL without what may be secret: login, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def is_safe(url: str) -> bool:
    """Whether the transfer cannot be tampered with: https, or the local host."""
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in LOOPBACK

"""Parses sources: ``torchvision:...``, ``hf:...`` and ``https://...``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from resnetkit.errors import InputError

_EXAMPLES = "torchvision:resnet50, hf:timm/resnet50.a1_in1k or https://..."
#: Names of the local host, a trustworthy origin (W3C Secure Contexts).
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_PART = r"[A-Za-z0-9][\w.-]*"
_HUB = re.compile(rf"(?P<name>{_PART}/{_PART})(?:/(?P<file>[^@]+))?")


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


def public(url: str) -> str:
    """The URL without what may be secret: login, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def is_safe(url: str) -> bool:
    """Whether the transfer cannot be tampered with: https, or the local host."""
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in LOOPBACK

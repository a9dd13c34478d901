"""API keys: their file, and the middleware that asks for one."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from resnetkit.errors import InputError
from resnetkit.server.refusal import Refusal
from resnetkit.server.traffic import PROBES

_logger = logging.getLogger(__name__)
#: Shorter keys could be guessed.
SHORTEST_KEY = 16
_NAME = re.compile(r"[\w.@-]{1,64}", re.ASCII)
_KEY = re.compile(rf"[!-~]{{{SHORTEST_KEY},512}}")


def read_api_keys(keys: Mapping[str, str] | str | Path) -> dict[str, str]:
    """The keys by name: given as a mapping, or as a text file with ``NAME:KEY`` or ``KEY`` lines.

    Empty lines and lines that start with ``#`` are skipped; a key without a name is ``key-LINE``.
    Logs a warning of a file that others can read. Raises ``InputError``, which never shows a key.
    """
    if isinstance(keys, Mapping):
        return _checked([(name, key, f"the key of {name!r}") for name, key in keys.items()], "")
    path = Path(keys)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        mode = path.stat().st_mode
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text; give a file with NAME:KEY lines") from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({(error.strerror or str(error)).lower()}); give a file with "
            "NAME:KEY lines"
        ) from None
    if mode & 0o004:
        _logger.warning("%s can be read by every user of this machine; chmod 600 it", path)
    found = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and not line.startswith("#"):
            name, colon, key = line.partition(":")
            named = (name.strip(), key.strip()) if colon else (f"key-{number}", line)
            found.append((*named, f"the key in line {number} of {path}"))
    return _checked(found, f"{path}: ")


def _checked(found: Iterable[tuple[str, str, str]], where: str) -> dict[str, str]:
    keys: dict[str, str] = {}
    for name, key, what in found:
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{what} has an invalid name; a name has 1 to 64 letters, digits or ._@-",
                field="api_keys",
            )
        if not _KEY.fullmatch(key):
            raise InputError(
                f"{what} has {len(key)} characters; a key has {SHORTEST_KEY} to 512, without spaces"
                " and all ASCII, e.g. from `openssl rand -hex 24`",
                field="api_keys",
            )
        if name in keys or key in keys.values():
            raise InputError(f"{what} has a name or key of another one", field="api_keys")
        keys[name] = key
    if not keys:
        raise InputError(f"{where}api_keys has no key; add a line NAME:KEY", field="api_keys")
    return keys


def check_exposure(host: str, protected: bool) -> None:
    """Raise ``InputError`` if a server without keys would be reached from other machines."""
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local and not protected:
        raise InputError(
            f"host is {host}, so other machines can reach the server; give api_keys, or "
            "insecure=True to serve everybody",
            field=("host", "api_keys", "insecure"),
        )


class RequireKey:
    """ASGI middleware: answers 401 to a request without a key of ``keys`` (key by name).

    The key is in ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``. Its name is stored in the
    scope as ``client_name``. ``PROBES`` need no key.
    """

    def __init__(self, app: ASGIApp, keys: Mapping[str, str]) -> None:
        self._app = app
        self._digests = {name: _digest(key.encode()) for name, key in keys.items()}
        self._missing = Refusal(
            "an API key is required: Authorization: Bearer KEY, or X-API-Key: KEY",
            status_code=401,
            headers={"www-authenticate": 'Bearer realm="resnetkit"'},
        )
        self._unknown = Refusal(
            "the API key is not known",
            status_code=401,
            headers={"www-authenticate": 'Bearer realm="resnetkit", error="invalid_token"'},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
        elif not (given := _given(Headers(scope=scope))):
            await self._missing(scope, receive, send)
        elif not (name := self._name(given)):
            await self._unknown(scope, receive, send)
        else:
            scope["client_name"] = name
            await self._app(scope, receive, send)

    def _name(self, given: str) -> str:
        """The name of a key, or an empty string; takes equally long for all keys."""
        digest, found = _digest(given.encode("latin-1")), ""
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found


def _given(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()


def _digest(key: bytes) -> bytes:
    # Digests have one length, so that a comparison does not show that of a key.
    return hashlib.sha256(key).digest()

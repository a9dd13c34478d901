"""One request to a storage: its file system, further attempts, and errors as one line."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar

from resnetkit.errors import InputError, printable, require
from resnetkit.source import public

T = TypeVar("T")
#: Attempts at a server that has never answered.
_FIRST = 3
#: Maximum seconds between attempts, to connect, and without a byte.
_PAUSE, _CONNECT, _WAIT = 15.0, 10.0, 30.0
#: Errors of botocore that another attempt may change.
_PASSING = frozenset(
    (
        "ChecksumError",
        "ConnectionError",
        "FlexibleChecksumError",
        "HTTPClientError",
        "IncompleteReadError",
    )
)
_systems: dict[tuple[int, str, str], Any] = {}
_systems_lock = threading.Lock()
_reached: set[tuple[str, str]] = set()


class StorageError(InputError):
    """An address that cannot be read or written; the message is one line."""


class NoSuchFileError(StorageError):
    """There is no such file, folder or bucket."""


def shown_address(address: str) -> str:
    """An address for messages, without login and query."""
    return printable(public(address))


def setting(name: str, default: float, most: float, what: str) -> float:
    """The environment variable ``name``, a number of ``what``. Raises ``InputError`` for anything
    but a number above 0 and below ``most``."""
    given = os.environ.get(name) or str(default)
    try:
        found = float(given)
    except ValueError:
        found = 0.0
    if not 0 < found < most:
        raise InputError(f"{name} is {given!a}; it must be a number of {what} above 0")
    return found


def patience() -> float:
    """``RESNETKIT_STORAGE_TIMEOUT``: the seconds without any progress after which a storage is
    given up; 120 by default."""
    return setting("RESNETKIT_STORAGE_TIMEOUT", 120, 1e6, "seconds")


def is_web(address: str) -> bool:
    return address.startswith(("http://", "https://"))


def _place(address: str) -> tuple[str, str]:
    protocol, _, rest = address.partition("://")
    return protocol, rest.partition("/")[0]


def system_of(address: str) -> tuple[Any, str]:
    """The file system of an address, one per process and server or bucket, and the path in it."""
    fsspec = require("fsspec", shown_address(address))
    key = (os.getpid(), *_place(address))
    with _systems_lock:
        if key not in _systems:
            options = _options(address)
            _systems[key] = fsspec.core.url_to_fs(address, skip_instance_cache=True, **options)[0]
            if hasattr(_systems[key], "retries"):
                _systems[key].retries = 1  # `attempted` does
        system = _systems[key]
    return system, system._strip_protocol(address)


def _options(address: str) -> dict[str, Any]:
    # Some attempts fit in the time even if one gets no answer.
    connect, wait = min(_CONNECT, patience() / 4), min(_WAIT, patience() / 4)
    protocol = address.partition("://")[0]
    if protocol in ("s3", "s3a"):
        config = {"connect_timeout": connect, "read_timeout": wait}
        retries = {"total_max_attempts": 1}
        return {"config_kwargs": {**config, "retries": retries}, "use_listings_cache": False}
    if is_web(address):
        aiohttp = require("aiohttp", shown_address(address))
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=wait)
        return {"client_kwargs": {"timeout": timeout}}
    return {}


def attempted(address: str, verb: str, call: Callable[[], T]) -> T:
    """The result of ``call``, after as many attempts as the module says."""
    place, end = _place(address), time.monotonic() + patience()
    for attempt in count(1):
        try:
            result = call()
        except (AttributeError, InputError, TypeError):
            raise
        except Exception as caught:
            error = _cause(caught) if is_web(address) else caught
            if final := _final(error, address):
                raise final from None
            pause = min(_PAUSE, 0.1 * 2**attempt) * random.uniform(0.5, 1)
            late = time.monotonic() + pause > end
            if late or (attempt == _FIRST and place not in _reached):
                raise StorageError(
                    f"{shown_address(address)} cannot be {verb}: {_reason(error)}"
                ) from None
            time.sleep(pause)
        else:
            _reached.add(place)
            return result
    raise AssertionError


def _cause(error: Exception) -> Exception:
    """The error behind fsspec's ``FileNotFoundError`` for any failure of a web server."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or not isinstance(cause, Exception):
        return error
    missing = getattr(cause, "status", 0) == 404 or isinstance(cause, FileNotFoundError)
    return error if missing else cause


def _final(error: Exception, address: str) -> StorageError | None:
    """The error to raise for what another attempt cannot change; None for anything else."""
    shown = shown_address(address)
    if isinstance(error, ImportError):
        package = getattr(error.__cause__ or error, "name", None) or "another package"
        return StorageError(
            f"{shown} requires {package}, which is not installed; pip install {package}"
        )
    if isinstance(error, FileNotFoundError):
        what = "bucket" if "bucket does not exist" in str(error) else "file, folder or bucket"
        return NoSuchFileError(f"{shown} does not exist: there is no such {what}")
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(error, "status", None)
    without = kinds & {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}
    if isinstance(error, PermissionError) or without or status in (401, 403):
        why = "there are no credentials" if without else "the storage refuses the credentials"
        return StorageError(f"{shown} cannot be accessed: {why}; check them and their rights")
    by_status = isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429)
    by_boto = "BotoCoreError" in kinds and not kinds & _PASSING
    by_kind = isinstance(error, ValueError | IsADirectoryError | NotADirectoryError)
    by_number = getattr(error, "errno", None) in (22, 38)  # invalid, not implemented: S3's 4xx, 501
    if by_status or by_boto or by_kind or by_number:
        return StorageError(f"{shown} cannot be used: {_reason(error)}")
    return None


def _reason(error: Exception) -> str:
    status, message = getattr(error, "status", None), getattr(error, "message", None)
    text = f"{status} {message}" if status else getattr(error, "strerror", None) or str(error)
    # An address in a message may have a login or a signature.
    text = re.sub(r"[a-z0-9+]+://[^\s'\"]+", lambda match: public(match[0]), " ".join(text.split()))
    return printable(text)[:200] or type(error).__name__

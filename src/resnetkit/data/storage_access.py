"""One request to a storage: its file system, further attempts, and errors as one line."""

from __future__ import annotations

import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from types import MethodType
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
        "ResponseParserError",
    )
)
#: Object storages, with a bucket or container and any characters in the names of files.
OBJECTS = frozenset(("abfs", "abfss", "az", "gcs", "gs", "oss", "r2", "s3", "s3a"))
_AZURE = frozenset(("abfs", "abfss", "az"))
#: The loggers of the packages, and what keeps their failed attempts from standard error.
_LOGGERS = ("adlfs", "azure", "fsspec", "gcsfs", "google", "s3fs")
_SILENT = logging.NullHandler()
#: Words of adlfs.
_NO_LOGIN = "Must provide either a connection_string or account_name"
_systems: dict[tuple[int, str, str], Any] = {}
_systems_lock = threading.Lock()
_reached: set[tuple[str, str]] = set()


class StorageError(InputError):
    """An address that cannot be read or written; the message is one line."""


class NoSuchFileError(StorageError):
    """There is no such file, folder or bucket."""


def shown_address(address: str) -> str:
    """An address for messages, without login and query."""
    protocol, _, rest = address.partition("://")
    if protocol not in OBJECTS:
        return printable(public(address))
    # The names of objects may have ? and #, and in front of an account's @ is a container.
    place, slash, name = rest.partition("/")
    login, _, host = place.rpartition("@")
    if protocol not in _AZURE or ":" in login:
        place = host
    return printable(f"{protocol}://{place}{slash}{name}")


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
    protocol, separator, rest = address.partition("://")
    if not separator or (protocol in OBJECTS and not rest.partition("/")[0]):
        shown = shown_address(address)
        raise StorageError(f"{shown} names no bucket; give an address such as s3://bucket/folder")
    key = (os.getpid(), *_place(address))
    with _systems_lock:
        if key not in _systems:
            for name in _LOGGERS:
                logging.getLogger(name).addHandler(_SILENT)
            options = _options(address)
            system = fsspec.core.url_to_fs(address, skip_instance_cache=True, **options)[0]
            _without_attempts(system)
            _systems[key] = system
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
    if protocol in _AZURE:
        limits = {"connection_timeout": connect, "read_timeout": wait}
        return {**limits, "use_listings_cache": False}
    if is_web(address) or protocol in ("gcs", "gs"):
        aiohttp = require("aiohttp", shown_address(address))
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=wait)
        if is_web(address):
            return {"client_kwargs": {"timeout": timeout}}
        # `retry_timeout` is for its request for the type of the bucket.
        limits = {"requests_timeout": timeout, "retry_timeout": connect}
        return {**limits, "use_listings_cache": False}
    return {}


def _without_attempts(system: Any) -> None:
    """Let a failure through at once, as ``attempted`` repeats the request."""
    if hasattr(system, "retries"):  # s3fs
        system.retries = 1
    with suppress(AttributeError):  # gcsfs: its method without the decorator
        system._request = MethodType(type(system)._request.__wrapped__, system)
    with suppress(AttributeError):  # adlfs
        system.service_client._config.retry_policy.total_retries = 0


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
            if final := _final(error, address, verb):
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


def _final(error: Exception, address: str, verb: str) -> StorageError | None:
    """The error to raise for what another attempt cannot change; None for anything else."""
    shown = shown_address(address)
    if isinstance(error, ImportError):
        package = getattr(error.__cause__ or error, "name", None) or "another package"
        return StorageError(
            f"{shown} requires {package}, which is not installed; pip install {package}"
        )
    status = _status(error)
    if isinstance(error, FileNotFoundError) or status == 404:
        bucket = "container" if address.partition("://")[0] in _AZURE else "bucket"
        if verb == "written" or "bucket does not exist" in str(error):
            return NoSuchFileError(f"{shown} cannot be {verb}: there is no such {bucket}")
        missing = f"there is no such file, folder or {bucket}"
        if is_web(address):
            missing = "there is no such file, and the folders of a web server are not listed"
        return NoSuchFileError(f"{shown} does not exist: {missing}")
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if why := _no_access(error, kinds, status):
        return StorageError(f"{shown} cannot be accessed: {why}; check them and their rights")
    by_status = status is not None and 400 <= status < 500 and status not in (408, 425, 429)
    by_boto = "BotoCoreError" in kinds and not kinds & _PASSING
    by_kind = isinstance(error, ValueError | IsADirectoryError | NotADirectoryError)
    by_kind = by_kind and "JSONDecodeError" not in kinds  # the body of an answer was cut
    by_number = getattr(error, "errno", None) in (22, 38)  # invalid, not implemented: S3's 4xx, 501
    if by_status or by_boto or by_kind or by_number:
        return StorageError(f"{shown} cannot be used: {_reason(error)}")
    return None


def _no_access(error: Exception, kinds: set[str], status: int | None) -> str:
    """What is wrong with the credentials; empty for other errors."""
    absent = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}
    text = str(error)
    if kinds & absent or text.startswith("DefaultAzureCredential") or _NO_LOGIN in text:
        return "there are no credentials"
    refused = isinstance(error, PermissionError) or status in (401, 403)
    expired = "RefreshError" in kinds and not getattr(error, "retryable", False)
    if refused or expired or (isinstance(error, OSError) and text.startswith("Forbidden:")):
        return "the storage refuses the credentials"
    return ""


def _status(error: Exception) -> int | None:
    """The HTTP status of an error of aiohttp, azure or gcsfs."""
    found = (getattr(error, name, None) for name in ("status", "status_code", "code"))
    return next((one for one in found if isinstance(one, int)), None)


def _reason(error: Exception) -> str:
    status, message = getattr(error, "status", None), getattr(error, "message", None)
    text = f"{status} {message}" if status else getattr(error, "strerror", None) or str(error)
    text = text.partition("RequestId:")[0]  # azure's errors have pages after it
    # An address in a message may have a login or a signature.
    text = re.sub(r"[a-z0-9+]+://[^\s'\"]+", lambda match: public(match[0]), " ".join(text.split()))
    return printable(text)[:200] or type(error).__name__

"""Resumable download, verified before the file gets its name.

A download of ``net.pth`` writes ``net.pth.part`` and ``net.pth.json``: the URL and the server's
version of the file (its ``ETag``), so that only the same file is resumed (RFC 9110, ``Range`` and
``If-Range``). An interrupted download, also by Ctrl-C, keeps the part for the next call; one with
a wrong checksum keeps nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from resnetkit.errors import InputError, parsed, require
from resnetkit.files import sha256_of, write_text
from resnetkit.source import is_safe

if TYPE_CHECKING:
    from requests import Response, Session

#: Attempts without a new byte before giving up, and seconds before the second one; the pause
#: doubles each time.
TRIES, PAUSE = 5, 1.0
#: Longest pause in seconds, even if the server asks for more.
LONGEST_PAUSE = 60.0
#: Timeouts in seconds, to connect and for the next bytes.
TIMEOUT = (10.0, 30.0)
#: Bytes per write; an interruption loses fewer than these.
CHUNK = 1 << 14
#: Statuses that are retried.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})

#: Progress callback: called with the bytes received, and the total if known.
OnProgress = Callable[[int, int | None], None]


class _CutError(Exception):
    """The connection ended early, or the server asked for a pause of ``pause`` seconds."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


def cached(target: Path, sha256: str | None) -> str | None:
    """The digest of ``target`` if it exists and matches, else None.

    ``sha256`` may be a prefix of the digest. Without it, the digest recorded at the download must
    match.
    """
    if not target.is_file():
        return None
    wanted = sha256 or _notes(target).get("sha256")
    digest = sha256_of(target)
    return digest if wanted and digest.startswith(wanted) else None


def download(
    url: str, target: Path, *, sha256: str | None, on_progress: OnProgress | None = None
) -> str:
    """Download ``url`` to ``target``, unless it exists already; returns its SHA-256.

    ``sha256`` is the expected digest, or a prefix of it. Raises ``InputError`` if the server
    refuses or does not answer, and for a wrong checksum.
    """
    requests, filelock = (require(name, "fetching") for name in ("requests", "filelock"))
    _check_way(url, url, sha256)
    with filelock.FileLock(_beside(target, "lock")):
        if digest := cached(target, sha256):  # another process may have downloaded it
            return digest
        with requests.Session() as session:
            session.headers.update(_headers())
            session.hooks["response"].append(partial(_check_redirect, url=url, sha256=sha256))
            digest = _download(session, url, target, sha256, on_progress)
    if on_progress is not None:
        on_progress(_size(target), _size(target))
    return digest


def _download(
    session: Session, url: str, target: Path, sha256: str | None, on_progress: OnProgress | None
) -> str:
    part = _beside(target, "part")
    for attempt in ("continued", "from the start"):
        continued = _size(part) > 0
        _bring(session, url, target, sha256, on_progress)
        digest = sha256_of(part)
        if sha256 is None or digest.startswith(sha256):
            break
        part.unlink()
        if attempt == "from the start" or not continued:
            raise InputError(
                f"{url} has the SHA-256 {digest}, expected {sha256}...; nothing was kept, "
                "try again or use another source"
            )
    with part.open("rb") as file:
        os.fsync(file.fileno())
    _note(target, {**_notes(target), "sha256": digest})
    part.replace(target)
    return digest


def _bring(
    session: Session, url: str, target: Path, sha256: str | None, on_progress: OnProgress | None
) -> None:
    """Send requests until the part is complete."""
    part = _beside(target, "part")
    failures, most = 0, _size(part)
    while True:
        try:
            return _ask(session, url, target, sha256, on_progress)
        except _CutError as cut:
            failures = failures + 1 if _size(part) <= most else 1
            most = max(most, _size(part))
            if failures >= TRIES:
                raise InputError(
                    f"{url}: {cut}, {TRIES} times; the received bytes are kept; try again later "
                    "to resume"
                ) from None
            time.sleep(min(LONGEST_PAUSE, max(cut.pause, PAUSE * 2 ** (failures - 1))))


def _ask(
    session: Session, url: str, target: Path, sha256: str | None, on_progress: OnProgress | None
) -> None:
    """One request for the missing bytes. Raises ``_CutError`` if another may get more."""
    from requests import exceptions

    part, notes = _beside(target, "part"), _notes(target)
    have, mark = _size(part), notes.get("mark") if notes.get("url") == url else None
    if have and not (mark or sha256):
        part.unlink()  # nothing shows whether the rest is of the same file
        have = 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and mark:
        headers["If-Range"] = mark
    try:
        with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            _check(response, url)
            begin = _begin(response, part, have)
            if begin is None:
                return
            _note(target, {"url": url, "mark": _mark(response.headers)})
            total = _length(response.headers, begin)
            with part.open("r+b" if begin else "wb") as file:
                file.seek(begin)
                file.truncate()
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    if on_progress is not None:
                        on_progress(file.tell(), total)
    except (exceptions.InvalidURL, exceptions.InvalidSchema, exceptions.TooManyRedirects) as error:
        raise InputError(f"{url}: {error}") from None
    except exceptions.SSLError as error:
        raise InputError(f"{url}: the server's certificate is not accepted ({error})") from None
    except exceptions.RequestException as error:
        raise _CutError(_reason(error)) from None
    except OSError as error:
        raise InputError(f"cannot write {part}: {error.strerror or error}") from None
    if total is not None and _size(part) < total:
        raise _CutError(f"the connection ended after {_size(part):,} of {total:,} bytes")


def _check(response: Response, url: str) -> None:
    """Check that the response is the file, or a part of it."""
    status = response.status_code
    if status in PASSING:
        wait = response.headers.get("Retry-After", "")
        raise _CutError(_status(status), float(wait) if wait.isdecimal() else 0.0)
    if status not in (200, 206, 416):
        raise InputError(f"{url}: the server answered {_status(status)}; check the URL")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise InputError(f"{url} is compressed, which was not requested; use another source")


def _check_redirect(response: Response, *_: Any, url: str, sha256: str | None, **__: Any) -> None:
    """Check a redirect before it is followed."""
    if response.is_redirect:
        _check_way(urljoin(response.url, response.headers["Location"]), url, sha256)


def _check_way(hop: str, url: str, sha256: str | None) -> None:
    """An unencrypted download requires a full checksum."""
    if not is_safe(hop) and len(sha256 or "") < 64:
        over = "is" if hop == url else f"redirects to {hop}, which is"
        raise InputError(
            f"{url} {over} not encrypted; give the file's checksum as sha256", field="sha256"
        )


def _begin(response: Response, part: Path, have: int) -> int | None:
    """The first byte of the response; None if the part is complete.

    The server may send the whole file instead of a part: if it does not support ranges, or if the
    file has changed.
    """
    if response.status_code == 200:
        return 0
    given = response.headers.get("Content-Range", "")
    if response.status_code == 206 and given.startswith(f"bytes {have}-"):
        return have
    if response.status_code == 416 and have and given == f"bytes */{have}":
        return None
    part.unlink(missing_ok=True)
    raise _CutError(f"the server sent other bytes of the file than requested ({given or 'none'})")


def _length(headers: Mapping[str, str], begin: int) -> int | None:
    length = headers.get("Content-Length", "")
    return begin + int(length) if length.isdecimal() else None


def _mark(headers: Mapping[str, str]) -> str | None:
    """The version of a file: a strong ETag, else the date."""
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified")


def _reason(error: Exception) -> str:
    """What went wrong, without details of the libraries used."""
    from requests import exceptions

    if isinstance(error, exceptions.Timeout):
        return "the server did not answer in time"
    if isinstance(error, exceptions.ChunkedEncodingError):
        return "the connection was cut"
    return "the server cannot be reached"


def _status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _headers() -> dict[str, str]:
    from resnetkit.version import __version__

    return {"Accept-Encoding": "identity", "User-Agent": f"resnetkit/{__version__}"}


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f"{target.name}.{ending}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _notes(target: Path) -> dict[str, Any]:
    try:
        return parsed(_beside(target, "json").read_bytes())
    except (OSError, InputError):
        return {}


def _note(target: Path, notes: Mapping[str, Any]) -> None:
    write_text(_beside(target, "json"), json.dumps(notes))

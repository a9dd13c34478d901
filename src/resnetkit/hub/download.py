"""Resumable download, checked before the file takes its name.

Beside the file ``net.pth`` stand, while it comes, ``net.pth.part`` and ``net.pth.json``: the
address and the server's mark of the version (its ``ETag``), so that only the same file is
continued (RFC 9110, ``Range`` and ``If-Range``). A download that ends in any way, Ctrl-C as well,
leaves the part for the next call; one whose checksum is wrong leaves nothing.
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
from resnetkit.hub.source import is_safe

if TYPE_CHECKING:
    from requests import Response, Session

#: Tries without a new byte before giving up, and the seconds before the second one; the pause
#: doubles with each.
TRIES, PAUSE = 5, 1.0
#: No pause is longer than this, whatever the server asks for.
LONGEST_PAUSE = 60.0
#: Seconds to connect, and to wait for the next bytes.
TIMEOUT = (10.0, 30.0)
#: Bytes that are written at once; a cut loses fewer than these.
CHUNK = 1 << 14
#: Answers that another try may change.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})

#: Hears how many bytes are there, and how many there will be, where that is known.
Told = Callable[[int, int | None], None]


class _CutError(Exception):
    """The connection ended too early, or the server asked for ``pause`` seconds of patience."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


def cached(target: Path, sha256: str | None) -> str | None:
    """The digest of ``target`` if it is there and is what it should be, else None.

    ``sha256`` may be the beginning of a digest. Without it, the digest counts that was written
    down when the file came.
    """
    if not target.is_file():
        return None
    wanted = sha256 or _notes(target).get("sha256")
    digest = sha256_of(target)
    return digest if wanted and digest.startswith(wanted) else None


def download(url: str, target: Path, *, sha256: str | None, told: Told | None = None) -> str:
    """Bring ``url`` to ``target``, unless it is there already; returns its SHA-256.

    ``sha256`` are the digits, or the first of them, that the digest has to have. Raises
    ``InputError`` for a server that says no or stays silent, and for a wrong checksum.
    """
    requests, filelock = (require(name, "fetching", "hub") for name in ("requests", "filelock"))
    _check_way(url, url, sha256)
    with filelock.FileLock(_beside(target, "lock")):
        if digest := cached(target, sha256):  # perhaps another process has just brought it
            return digest
        with requests.Session() as session:
            session.headers.update(_headers())
            session.hooks["response"].append(partial(_check_redirect, url=url, sha256=sha256))
            digest = _download(session, url, target, sha256, told)
    if told is not None:
        told(_size(target), _size(target))
    return digest


def _download(
    session: Session, url: str, target: Path, sha256: str | None, told: Told | None
) -> str:
    part = _beside(target, "part")
    for attempt in ("continued", "from the start"):
        continued = _size(part) > 0
        _bring(session, url, target, sha256, told)
        digest = sha256_of(part)
        if sha256 is None or digest.startswith(sha256):
            break
        part.unlink()
        if attempt == "from the start" or not continued:
            raise InputError(
                f"{url} has the SHA-256 {digest} and should have {sha256}...; nothing was kept, "
                "try again or another source"
            )
    with part.open("rb") as file:
        os.fsync(file.fileno())
    _note(target, {**_notes(target), "sha256": digest})
    part.replace(target)
    return digest


def _bring(session: Session, url: str, target: Path, sha256: str | None, told: Told | None) -> None:
    """Ask until all bytes of the part are there."""
    part = _beside(target, "part")
    failures, most = 0, _size(part)
    while True:
        try:
            return _ask(session, url, target, sha256, told)
        except _CutError as cut:
            failures = failures + 1 if _size(part) <= most else 1
            most = max(most, _size(part))
            if failures >= TRIES:
                raise InputError(
                    f"{url}: {cut}, {TRIES} times; what has come is kept, and the same "
                    "command goes on from there"
                ) from None
            time.sleep(min(LONGEST_PAUSE, max(cut.pause, PAUSE * 2 ** (failures - 1))))


def _ask(session: Session, url: str, target: Path, sha256: str | None, told: Told | None) -> None:
    """One request, for what is not there yet. Raises ``_CutError`` where another may bring more."""
    from requests import exceptions

    part, notes = _beside(target, "part"), _notes(target)
    have, mark = _size(part), notes.get("mark") if notes.get("url") == url else None
    if have and not (mark or sha256):
        part.unlink()  # nothing would tell whether the rest belongs to the beginning
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
                    if told is not None:
                        told(file.tell(), total)
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
    """Whether the answer is the file, or a part of it."""
    status = response.status_code
    if status in PASSING:
        wait = response.headers.get("Retry-After", "")
        raise _CutError(_status(status), float(wait) if wait.isdecimal() else 0.0)
    if status not in (200, 206, 416):
        raise InputError(f"{url}: the server says {_status(status)}; check the address")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise InputError(f"{url} comes compressed, though it was not asked for so")


def _check_redirect(response: Response, *_: Any, url: str, sha256: str | None, **__: Any) -> None:
    """Look at where an answer leads before it is followed."""
    if response.is_redirect:
        _check_way(urljoin(response.url, response.headers["Location"]), url, sha256)


def _check_way(hop: str, url: str, sha256: str | None) -> None:
    """What comes unencrypted is taken only with a whole checksum."""
    if not is_safe(hop) and len(sha256 or "") < 64:
        over = "is" if hop == url else f"leads to {hop}, which is"
        raise InputError(
            f"{url} {over} not encrypted; give the file's checksum as sha256", field="sha256"
        )


def _begin(response: Response, part: Path, have: int) -> int | None:
    """The byte at which the answer begins; None where no more is needed.

    The server may send the whole file although a part was asked for: it does not do parts, or the
    file has changed since.
    """
    if response.status_code == 200:
        return 0
    given = response.headers.get("Content-Range", "")
    if response.status_code == 206 and given.startswith(f"bytes {have}-"):
        return have
    if response.status_code == 416 and have and given == f"bytes */{have}":
        return None
    part.unlink(missing_ok=True)
    raise _CutError(
        f"the server sends other bytes of the file than were asked for ({given or 'none'})"
    )


def _length(headers: Mapping[str, str], begin: int) -> int | None:
    length = headers.get("Content-Length", "")
    return begin + int(length) if length.isdecimal() else None


def _mark(headers: Mapping[str, str]) -> str | None:
    """What tells one version of a file from another: a strong ETag, else the date."""
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified")


def _reason(error: Exception) -> str:
    """What went wrong, without the layers of the libraries below."""
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

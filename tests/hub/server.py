"""A server on 127.0.0.1 that sends files as download.pytorch.org and the Hugging Face Hub do.

Ranges and If-Range as RFC 9110 has them. Each path may have faults, which are used up one by one:
``("status", 503)``; ``("cut", 1000)`` ends the connection after so many bytes of the body;
``("stall", 1000)`` sends no more after them until ``Server.go_on`` is set.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

from http_serving import http_serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Served:
    """A file: its content, whether parts can be had of it, more headers; or where else it is."""

    content: bytes
    etag: str | None = None
    ranges: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    faults: list[tuple[str, int]] = field(default_factory=list)
    location: str | None = None


@dataclass
class Request:
    """A request that came; ``sent`` are the bytes of the body that went out."""

    method: str
    path: str
    range: str | None
    if_range: str | None
    status: int = 0
    sent: int = 0


class Server:
    """The files by path, and the requests that came."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.requests: list[Request] = []
        self.stalled, self.go_on = threading.Event(), threading.Event()
        self.url = ""

    def add(self, path: str, content: bytes, **options: object) -> Served:
        """Serve ``content``; its ETag is its digest unless another is given."""
        options.setdefault("etag", f'"{hashlib.md5(content).hexdigest()}"')
        self.files[path] = Served(content, **options)
        return self.files[path]

    def add_hub(self, name: str, files: dict[str, bytes], revision: str = "main") -> None:
        """Serve a repository as the Hub does: weights by SHA-256, small files by git's SHA-1."""
        for file, content in files.items():
            if file.endswith((".safetensors", ".bin")):
                digest = hashlib.sha256(content).hexdigest()
            else:
                digest = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            headers = {"X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(content))}
            headers["X-Linked-Etag"] = f'"{digest}"'
            for place in (revision, COMMIT):
                path = f"/{name}/resolve/{place}/{file}"
                self.add(path, content, etag=f'"{digest}"', headers=headers)

    def gets(self, ending: str = "") -> list[Request]:
        """The GET requests whose path ends so."""
        return [r for r in self.requests if r.method == "GET" and r.path.endswith(ending)]


@contextmanager
def serving() -> Iterator[Server]:
    """A server in threads of its own, as long as the block lasts."""
    server = Server()
    with http_serving(type("Handler", (_Handler,), {"server_": server})) as server.url:
        try:
            yield server
        finally:
            server.go_on.set()


class _Handler(BaseHTTPRequestHandler):
    server_: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(self.path.partition("?")[0])
        asked = Request(self.command, path, self.headers.get("Range"), self.headers.get("If-Range"))
        self.server_.requests.append(asked)
        file = self.server_.files.get(path)
        if file is None:
            self._refuse(asked, 404, self._absent(path))
            return
        if file.location:
            self._refuse(asked, 302, {"Location": file.location})
            return
        fault, amount = file.faults.pop(0) if body and file.faults else ("", 0)
        if fault == "status":
            self._refuse(asked, amount, {})
            return
        begin, status = 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", asked.range or "")
        if wanted and file.ranges and asked.if_range in (None, file.etag):
            begin, status = int(wanted[1]), 206
            if begin >= len(file.content):
                self._refuse(asked, 416, {"Content-Range": f"bytes */{len(file.content)}"})
                return
        asked.status = status
        self.send_response(status)
        self.send_header("Content-Length", str(len(file.content) - begin))
        if status == 206:
            last = len(file.content) - 1
            self.send_header("Content-Range", f"bytes {begin}-{last}/{last + 1}")
        if file.etag:
            self.send_header("ETag", file.etag)
        for name, value in file.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self._send(asked, file.content[begin:], fault, amount)

    def _send(self, asked: Request, content: bytes, fault: str, amount: int) -> None:
        try:
            first = content[:amount] if fault else content
            self.wfile.write(first)
            asked.sent = len(first)
            if fault == "stall":
                self.server_.stalled.set()
                self.server_.go_on.wait(60)
            if fault:
                self.close_connection = True
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _refuse(self, asked: Request, status: int, headers: dict[str, str]) -> None:
        asked.status = status
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _absent(self, path: str) -> dict[str, str]:
        """What the Hub says: there is no such file, revision or repository."""
        parts = Path(path).parts
        if "resolve" not in parts:
            return {}
        here = [Path(p).parts for p in self.server_.files]
        if not any(p[:3] == parts[:3] for p in here):
            return {"X-Error-Code": "RepoNotFound"}
        if not any(p[:5] == parts[:5] for p in here):
            return {"X-Error-Code": "RevisionNotFound"}
        return {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}

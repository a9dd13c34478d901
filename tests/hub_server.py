"""A server on 127.0.0.1 that speaks the part of the Hugging Face Hub's API that pushing needs.

Repositories have branches of commits; weights go through Git LFS, as on the Hub. ``Hub.refuse``
answers requests of a path with a status.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from http_serving import http_serving

TOKENS = {"hf_me": "me", "hf_other": "other"}
#: Identifiers of licences that the Hub accepts; there are more.
LICENSES = {"unknown", "apache-2.0", "mit", "bsd-3-clause"}


@dataclass
class Repository:
    """Files by commit, and the commit of each branch."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str = "") -> str:
        content = json.dumps([len(self.commits), sorted(files)])
        sha = hashlib.sha1(content.encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        self.messages.append(message)
        return sha

    def at(self, revision: str) -> str | None:
        sha = self.branches.get(revision, revision)
        return sha if sha in self.commits else None


class Hub:
    """The repositories by name, uploaded large files by SHA-256, and the requests that came."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: dict[str, int] = {}
        self.url = ""

    def add(self, name: str, files: dict[str, bytes], *, private: bool = False) -> Repository:
        repository = self.repositories[name] = Repository(private)
        repository.commit("main", files)
        return repository

    def files(self, name: str, branch: str = "main") -> dict[str, bytes]:
        repository = self.repositories[name]
        return repository.commits[repository.branches[branch]]

    def refuse(self, ending: str, status: int) -> None:
        """Answer requests whose path ends so with ``status``."""
        self.faults[ending] = status


@contextmanager
def hub_serving() -> Iterator[Hub]:
    """A hub in threads of its own, as long as the block lasts."""
    hub = Hub()
    with http_serving(type("Handler", (_Handler,), {"hub": hub})) as hub.url:
        yield hub


def into(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub take ``hub`` for the Hub, logged in as ``me``, with an empty cache.

    Here, and in processes that start from now on. Xet, the Hub's other way to upload, needs servers
    of its own.
    """
    from huggingface_hub import constants

    for name, value in {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "hf_me",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


class _RefusedError(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with suppress(ConnectionResetError):  # the client has gone
            super().handle()

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.hub.requests.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            for ending, status in self.hub.faults.items():
                if path.endswith(ending):
                    raise _RefusedError(status, message="refused by the test")
            for pattern, answer in ROUTES.items():
                found = re.fullmatch(pattern, f"{self.command} {path}")
                if found:
                    answer(self, body, **found.groupdict())
                    return
            raise _RefusedError(404, message=f"no route {self.command} {path}")
        except _RefusedError as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
            self._send({"error": refused.message}, refused.status, headers)

    def _send(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(raw)), **(headers or {})}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    @property
    def user(self) -> str | None:
        return TOKENS.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def readable(self, name: str) -> Repository:
        found = self.hub.repositories.get(name)
        if found is None or (found.private and self.user != name.partition("/")[0]):
            raise _RefusedError(404 if self.user else 401, "RepoNotFound", "Repository not found")
        return found

    def writable(self, name: str) -> Repository:
        found = self.readable(name)
        self.may_write(name.partition("/")[0])
        return found

    def may_write(self, owner: str | None) -> None:
        if self.user is None:
            raise _RefusedError(401, message="Invalid username or password.")
        if owner not in (None, self.user):
            raise _RefusedError(403, message=f"You don't have the rights under {owner}")

    def create(self, body: bytes) -> None:
        wanted = json.loads(body)
        self.may_write(wanted["organization"])
        name = f"{wanted['organization'] or self.user}/{wanted['name']}"
        if name in self.hub.repositories:
            raise _RefusedError(409, message="You already created this model repo")
        is_private = wanted.get("visibility") == "private" or wanted.get("private") is True
        self.hub.add(name, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=is_private)
        self._send({"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def info(self, body: bytes, name: str, revision: str = "main") -> None:
        repository = self.readable(name)
        sha = self.revision(repository, revision)
        files = repository.commits[sha]
        card = re.match(r"---\n(.*?)\n---", files.get("README.md", b"").decode(), re.DOTALL)
        data = yaml.safe_load(card[1]) if card else None
        self._send(
            {
                "id": name,
                "modelId": name,
                "sha": sha,
                "private": repository.private,
                "siblings": [{"rfilename": file} for file in sorted(files)],
                "tags": [],
                **({"cardData": data} if data else {}),
            }
        )

    def tree(self, body: bytes, name: str, revision: str, folder: str = "") -> None:
        files = self.readable(name).commits[self.revision(self.readable(name), revision)]
        entries = [
            {"type": "file", "path": file, "size": len(content), "oid": _digest(file, content)}
            for file, content in files.items()
            if file.startswith(folder)
        ]
        if folder and not entries:
            raise _RefusedError(404, "EntryNotFound", f"{folder} does not exist")
        self._send(entries)

    def revision(self, repository: Repository, name: str) -> str:
        sha = repository.at(name)
        if sha is None:
            raise _RefusedError(404, "RevisionNotFound", f"Invalid rev id: {name}")
        return sha

    def validate(self, body: bytes) -> None:
        text = json.loads(body)["content"]
        card = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
        data = yaml.safe_load(card[1]) if card else {}
        if data.get("license") not in LICENSES:
            message = f'"license" must be one of {sorted(LICENSES)}'
            plain = self.headers.get("Accept") == "text/plain"
            answer = message.encode() if plain else {"errors": [{"message": message}]}
            self._send(answer, 400)
            return
        self._send({"errors": [], "warnings": []})

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        repository = self.writable(name)
        files = repository.commits[self.revision(repository, revision)]
        answers = []
        for file in json.loads(body)["files"]:
            old = files.get(file["path"])
            mode = "lfs" if _is_large(file["path"]) else "regular"
            answers.append(
                {
                    "path": file["path"],
                    "uploadMode": mode,
                    "shouldIgnore": False,
                    "oid": None if old is None else _digest(file["path"], old),
                }
            )
        self._send({"files": answers})

    def batch(self, body: bytes, name: str) -> None:
        self.writable(name)
        objects = []
        for one in json.loads(body)["objects"]:
            actions = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}
            known = one["oid"] in self.hub.large
            objects.append({**one, **({} if known else {"actions": actions})})
        self._send({"transfer": "basic", "objects": objects})

    def upload(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise _RefusedError(422, message="the content has another SHA-256")
        self.hub.large[oid] = body
        self._send(b"")

    def branch(self, body: bytes, name: str, branch: str) -> None:
        repository = self.writable(name)
        if branch in repository.branches:
            raise _RefusedError(409, message=f"Reference already exists: {branch}")
        repository.branches[branch] = repository.branches["main"]
        self._send({})

    def commit(self, body: bytes, name: str, revision: str) -> None:
        repository = self.writable(name)
        before = self.revision(repository, revision)
        files, message = dict(repository.commits[before]), ""
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
                if value.get("parentCommit") not in (None, before):
                    raise _RefusedError(412, message="A commit has happened since")
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        request = "create_pr=1" in self.path
        sha = repository.commit("refs/pr/1" if request else revision, files, message)
        answer = {"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha}
        if request:
            answer["pullRequestUrl"] = f"{self.hub.url}/{name}/discussions/1"
        self._send(answer)

    def resolve(self, body: bytes, name: str, revision: str, file: str) -> None:
        repository = self.readable(name)
        sha = self.revision(repository, revision)
        content = repository.commits[sha].get(file)
        if content is None:
            raise _RefusedError(404, "EntryNotFound", f"{file} does not exist")
        etag = f'"{_digest(file, content)}"'
        size = str(len(content))
        headers = {"ETag": etag, "X-Linked-Etag": etag, "X-Linked-Size": size}
        self._send(content, headers={**headers, "X-Repo-Commit": sha})


_NAME = r"(?P<name>[^/]+/[^/]+)"
_REVISION = r"(?P<revision>refs/pr/\d+|[^/]+)"
ROUTES = {
    "POST /api/repos/create": _Handler.create,
    "POST /api/validate-yaml": _Handler.validate,
    f"GET /api/models/{_NAME}": _Handler.info,
    f"GET /api/models/{_NAME}/revision/{_REVISION}": _Handler.info,
    f"GET /api/models/{_NAME}/tree/{_REVISION}(/(?P<folder>.+))?": _Handler.tree,
    f"POST /api/models/{_NAME}/preupload/{_REVISION}": _Handler.preupload,
    f"POST /api/models/{_NAME}/commit/{_REVISION}": _Handler.commit,
    f"POST /api/models/{_NAME}/branch/(?P<branch>.+)": _Handler.branch,
    rf"POST /{_NAME}\.git/info/lfs/objects/batch": _Handler.batch,
    "PUT /lfs/(?P<oid>[0-9a-f]{64})": _Handler.upload,
    f"(GET|HEAD) /{_NAME}/resolve/{_REVISION}/(?P<file>.+)": _Handler.resolve,
}


def _is_large(file: str) -> bool:
    return file.endswith((".safetensors", ".bin"))


def _digest(file: str, content: bytes) -> str:
    """SHA-256 of large files, git's SHA-1 of small ones."""
    if _is_large(file):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

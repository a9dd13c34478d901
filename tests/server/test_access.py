"""Keys, limits per client, headers and refusals, over sockets to the whole application."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send
from test_application import jpeg, served_of

import resnetkit
from live_server import answer, ask, connect, running
from resnetkit.errors import InputError
from resnetkit.server.access import Access, ClientLimit
from resnetkit.server.api_keys import check_exposure, read_api_keys
from resnetkit.server.application import create_app
from resnetkit.server.connections import ConnectionLimits
from resnetkit.server.protocol import httptools_protocol
from resnetkit.server.security_headers import page_policy
from resnetkit.server.served_model import Limits

KEYS = {"alice": "a" * 20, "bob": "b" * 24}
LIMITS = Limits(max_body_bytes=1_000_000)
HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
Address = tuple[str, int]


@pytest.fixture(scope="module")
def served(bundle_file: Path) -> resnetkit.server.ServedModel:
    return served_of(resnetkit.load(bundle_file))


@pytest.fixture(scope="module")
def address(served: resnetkit.server.ServedModel) -> Iterator[Address]:
    app = create_app(served, LIMITS)

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret /home/someone")

    with running(app, httptools_protocol, ConnectionLimits(linger=3), lifespan="on") as found:
        yield found


@pytest.fixture(scope="module")
def locked(served: resnetkit.server.ServedModel) -> Iterator[Address]:
    app = create_app(served, LIMITS, access=Access(api_keys=KEYS, log=True))
    with running(app, httptools_protocol, ConnectionLimits(), lifespan="on") as found:
        yield found


def url(address: Address, path: str) -> str:
    return f"http://{address[0]}:{address[1]}{path}"


def test_a_body_that_is_too_large_is_answered_and_not_reset(address: Address) -> None:
    """Chunked, of known length, and after `Expect`; by clients that send all before they read."""
    chunks = (b"x" * 100_000 for _ in range(300))
    for content in (chunks, b"x" * 30_000_000):
        found = httpx.post(url(address, "/predict"), content=content, timeout=20)
        assert found.status_code == 413
        assert "larger than the limit of 1,000,000 bytes" in found.text


@pytest.mark.parametrize(
    "length",
    [b"Content-Length: 30000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n1c9c380\r\n"],
)
def test_all_of_a_body_can_be_sent_before_the_refusal_is_read(
    address: Address, length: bytes
) -> None:
    with connect(address) as client:
        client.sendall(HEAD + length)
        for _ in range(300):
            client.sendall(b"x" * 100_000)
        assert " 413 " in answer(client)


@pytest.mark.parametrize("header", ["Transfer-Encoding: chunked", "Expect: 100-continue"])
def test_curl_shows_the_refusal(address: Address, header: str, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * 30_000_000)
    command = ["curl", "-sS", "-H", header, "--data-binary", f"@{large}"]
    done = subprocess.run(
        [*command, url(address, "/predict")], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith('{"detail":"the body is larger than the limit of 1,000,000 ')


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        (b"Content-Encoding: gzip\r\n", 415, "Content-Encoding 'gzip'; send it without"),
        (b"Content-Encoding: br, gzip\r\n", 415, "'br, gzip'"),
        (b"Content-Encoding: \xff\xfe\r\n", 415, "Content-Encoding"),
        (b"Content-Encoding: identity\r\n", 422, "not an image"),
        (b"Transfer-Encoding: chunked\r\n", 400, ""),
        (b"Transfer-Encoding: gzip, chunked\r\n", 400, ""),
        (b"Content-Type: multipart/form-data\r\n", 400, ""),
        (b"Content-Type: multipart/form-data; boundary=\r\n", 400, ""),
    ],
)
def test_encodings(
    address: Address, headers: bytes, status: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = ask(address, HEAD + headers + b"Content-Length: 5\r\n\r\nhello")
    assert found.split()[1] == str(status), found
    assert said in found.partition("\r\n\r\n")[2]
    assert not [record for record in caplog.records if record.exc_info]


def test_h11_refuses_two_lengths_too() -> None:
    """h11 passes them on."""
    from resnetkit.server.access import RequestChecks
    from resnetkit.server.protocol import h11_protocol

    app = FastAPI()
    app.add_middleware(RequestChecks)
    with running(app, h11_protocol, ConnectionLimits()) as address:
        both = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        found = ask(address, HEAD + both)
    assert " 400 " in found
    assert "both Content-Length and Transfer-Encoding" in found


@pytest.mark.parametrize(
    "start",
    [
        HEAD + b"Content-Length: 1000\r\n\r\nabc",
        HEAD
        + b"Content-Type: multipart/form-data; boundary=X\r\nContent-Length: 99\r\n\r\n--X\r\n",
    ],
)
def test_a_client_that_hangs_up_is_counted_and_not_logged(
    address: Address, start: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    def counted() -> float:
        lines = httpx.get(url(address, "/metrics")).text.splitlines()
        name = 'resnetkit_requests_total{path="/predict",status="499"}'
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    before = counted()
    with connect(address) as client:
        client.sendall(start)
        time.sleep(0.1)
    end = time.monotonic() + 5
    while counted() == before and time.monotonic() < end:
        time.sleep(0.05)
    assert counted() == before + 1
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


@pytest.mark.parametrize("path", ["/", "/health", "/model", "/nothing", "/docs", "/broken"])
def test_security_headers(address: Address, path: str) -> None:
    found = httpx.get(url(address, path))
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.headers["referrer-policy"] == "no-referrer"
    assert found.headers["cross-origin-resource-policy"] == "same-origin"
    policy = found.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert ("unsafe" in policy) == (path == "/docs"), "FastAPI's page starts Swagger UI inline"
    assert (found.status_code, found.text) == (
        500,
        '{"detail":"internal error"}',
    ) or path != "/broken"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": f"Bearer {KEYS['alice']}"}, 200),
        ({"authorization": f"bearer  {KEYS['bob']}"}, 200),
        ({"x-api-key": KEYS["bob"]}, 200),
        ({"authorization": KEYS["alice"]}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": f"Basic {KEYS['alice']}"}, 401),
        ({"x-api-key": KEYS["alice"][:-1]}, 401),
        ({"x-api-key": KEYS["alice"] + "a"}, 401),
        ({"x-api-key": b"\xff" * 20}, 401),
        ({"x-api-key": "alice"}, 401),
    ],
)
def test_keys(locked: Address, headers: dict[str, Any], status: int) -> None:
    for path in ("/model", "/", "/metrics", "/docs", "/openapi.json"):
        found = httpx.get(url(locked, path), headers=headers)
        assert found.status_code == status
        if status == 401:
            assert found.headers["www-authenticate"].startswith("Bearer ")
            assert found.text.count("\n") == 0
    found = httpx.post(url(locked, "/predict"), headers=headers, content=jpeg(0))
    assert found.status_code == status
    assert httpx.get(url(locked, "/health"), headers=headers).status_code == 200
    assert httpx.get(url(locked, "/ready"), headers=headers).json() == {"ready": True}


def test_the_log_has_the_name_of_the_key_and_not_the_key(
    locked: Address, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "resnetkit.access")
    key = {"authorization": f"Bearer {KEYS['alice']}"}
    httpx.get(url(locked, f"/model?key={KEYS['alice']}"), headers=key)
    httpx.get(url(locked, "/a%0a127.0.0.1 bob"), headers=key)
    httpx.get(url(locked, "/model"), headers={"x-api-key": "c" * 20})
    lines = [record.getMessage() for record in caplog.records if record.name == "resnetkit.access"]
    assert len(lines) == 3
    assert lines[0].startswith('127.0.0.1 alice "GET /model" 200 ')
    assert lines[1].startswith('127.0.0.1 alice "GET /a%0a127.0.0.1%20bob" 404 ')
    assert lines[2].startswith('127.0.0.1 - "GET /model" 401 ')
    assert not any(key in line for line in lines for key in (*KEYS.values(), "c" * 20))


def test_a_file_of_keys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# of the team\n\nalice: {'a' * 20}\n{'b' * 16}\nc@d.e:{'c' * 9}:{'d' * 9}\n")
    path.chmod(0o600)
    keys = read_api_keys(path)
    assert keys == {"alice": "a" * 20, "key-4": "b" * 16, "c@d.e": f"{'c' * 9}:{'d' * 9}"}
    assert not caplog.records
    path.chmod(path.stat().st_mode | stat.S_IROTH)
    read_api_keys(path)
    assert "can be read by every user of this machine; chmod 600 it" in caplog.text
    assert "aaaa" not in repr(Access(api_keys=keys))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "has no key; add a line NAME:KEY"),
        ("# none\n", "has no key"),
        ("alice:secret\n", "line 1 of {path} has 6 characters; a key has 16 to 512"),
        ("x\na:" + "y" * 20, "line 1 of {path} has 1 characters"),
        (f"al ice:{'s' * 20}", "line 1 of {path} has an invalid name"),
        (f"a:{'s' * 20}\na:{'t' * 20}", "line 2 of {path} has a name or key of another one"),
        (f"a:{'s' * 20}\nb:{'s' * 20}", "line 2 of {path} has a name or key of another one"),
        (f"a:{'s' * 10} {'s' * 10}", "without spaces"),
        (b"\xff\xfe", "is no text"),
        (None, "cannot be read (no such file or directory)"),
    ],
)
def test_unusable_files_of_keys(tmp_path: Path, text: str | bytes | None, line: str) -> None:
    path = tmp_path / "keys"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as found:
        read_api_keys(path)
    assert line.format(path=path) in str(found.value)
    assert "secret" not in str(found.value)
    assert "ssss" not in str(found.value)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_other_machines_are_served_only_on_purpose(host: str, local: bool) -> None:
    check_exposure(host, True)
    if local:
        check_exposure(host, False)
    else:
        with pytest.raises(InputError, match="api_keys, or insecure=True"):
            check_exposure(host, False)


def test_a_client_has_a_number_of_requests_at_a_time(
    served: resnetkit.server.ServedModel,
) -> None:
    """Each key by itself; a request that ends makes room, also one that hangs up."""
    access = Access(api_keys=KEYS, max_requests_per_client=2)
    alice, bob = ({"x-api-key": key} for key in KEYS.values())
    with running(
        create_app(served, LIMITS, access=access),
        httptools_protocol,
        ConnectionLimits(),
        lifespan="on",
    ) as address:
        begun = f"X-API-Key: {KEYS['alice']}\r\nContent-Length: 9\r\n\r\n".encode()
        waiting = [connect(address) for _ in range(2)]
        for client in waiting:
            client.sendall(HEAD + begun)
        time.sleep(0.2)
        found = httpx.post(url(address, "/predict"), headers=alice, content=jpeg(0))
        assert found.status_code == 429
        assert found.headers["retry-after"] == "1"
        assert "2 of your requests are in progress" in found.text
        assert httpx.get(url(address, "/health")).status_code == 200
        assert httpx.post(url(address, "/predict"), headers=bob, content=jpeg(0)).is_success
        for client in waiting:
            client.close()
        time.sleep(0.2)
        assert httpx.post(url(address, "/predict"), headers=alice, content=jpeg(0)).is_success


def test_without_keys_a_client_is_an_address() -> None:
    began, may = threading.Semaphore(0), threading.Event()
    told: list[str] = []

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        told.append(scope["client"][0])
        began.release()
        while not may.is_set():
            await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def get(address: Address, forwarded: str, found: list[int]) -> None:
        found.append(
            httpx.get(url(address, "/x"), headers={"x-forwarded-for": forwarded}).status_code
        )

    with running(ClientLimit(slow, 1), httptools_protocol, ConnectionLimits()) as address:
        found: list[int] = []
        one = threading.Thread(target=get, args=(address, "192.0.2.1", found))
        one.start()
        try:
            assert began.acquire(timeout=20)
            get(address, "192.0.2.1", found)
        finally:
            may.set()
        get(address, "192.0.2.2", found)
        one.join()
    assert sorted(found) == [200, 200, 429]
    assert told == ["192.0.2.1", "192.0.2.2"]


def test_the_page_runs_its_own_script_only(address: Address) -> None:
    """The hashes are those of all that is inline; there is nothing that a hash cannot allow."""
    found = httpx.get(url(address, "/"))
    policy = found.headers["content-security-policy"]
    for kind in ("script", "style"):
        inline = re.findall(rf"<{kind}>(.*?)</{kind}>", found.text, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in inline]
        assert found.text.count(f"<{kind}") == len(inline) > 0
        assert f"{kind}-src " + " ".join(f"'sha256-{one.decode()}'" for one in hashes) in policy
    assert not re.search(r"<[^>]+\s(on\w+|style)=", found.text)
    assert "script-src 'none'" in page_policy("<h1>text</h1>")

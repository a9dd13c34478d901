"""Limits of heads, times and connections, over sockets, with both parsers of HTTP."""

from __future__ import annotations

import logging
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from live_server import answer, ask, connect, echo, running
from resnetkit.server.connections import ConnectionLimits
from resnetkit.server.protocol import h11_protocol, httptools_protocol, limited_protocol

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
LAST = HEAD + b"Connection: close\r\n"
CHUNKED = LAST + b"Transfer-Encoding: chunked\r\n\r\n"
LIMITS = ConnectionLimits(
    head_timeout=0.6, body_timeout=0.6, min_body_rate=100_000, keep_alive=1, linger=2
)
PROTOCOLS = [httptools_protocol, h11_protocol]
Address = tuple[str, int]


@pytest.fixture(scope="module", params=["httptools", "h11"])
def parser(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def address(parser: str) -> Iterator[Address]:
    with running(echo, PROTOCOLS[parser == "h11"], LIMITS) as found:
        yield found


def said_to(client: socket.socket) -> bytes:
    """What the server says next; nothing if it has closed the connection."""
    try:
        return client.recv(1000)
    except ConnectionResetError:
        return b""


def memory() -> int:
    """The most bytes this process has held, which runs the server too."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def test_httptools_is_used_where_it_is_installed() -> None:
    assert limited_protocol(LIMITS).__name__ == httptools_protocol(LIMITS).__name__
    assert h11_protocol(LIMITS).__name__ != httptools_protocol(LIMITS).__name__


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        (LAST + b"Content-Length: 5\r\n\r\nhello", 200, "5"),
        (CHUNKED + b"5\r\nhello\r\n5\r\nhello\r\n0\r\nTrailer: b\r\n\r\n", 200, "10"),
        (b"GET /" + b"x" * 16_000 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200, "0"),
        (LAST + b"X: " + b"y" * 60_000 + b"\r\n\r\n", 200, "0"),
        (b"GET /" + b"x" * 17_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "than 16,384 bytes"),
        (b"GET /" + b"x" * 17_000, 414, "than 16,384 bytes"),
        (LAST + b"X: " + b"y" * 66_000 + b"\r\n\r\n", 431, "larger than 65,536 bytes"),
        (LAST + b"X: y\r\n" * 12_000 + b"\r\n", 431, "larger than 65,536 bytes"),
        (b"\x16\x03\x01\x02\x00" * 9, 400, "not valid HTTP/1.1"),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n1\r\na\r\n0\r\n\r\n", 400, "not valid HTTP/1.1"),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, "not valid HTTP/1.1"),
        (HEAD + b"Content-Length: -1\r\n\r\nab", 400, "not valid HTTP/1.1"),
        (b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n", 400, "not valid HTTP/1.1"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", 200, "0"),
    ],
)
def test_heads(
    address: Address, request_: bytes, status: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    head, _, body = ask(address, request_).partition("\r\n\r\n")
    assert head.split()[1] == str(status)
    assert said in body
    assert "\n" not in body
    if status != 200:
        assert "connection: close" in head
        assert "x-content-type-options: nosniff" in head
    assert not [record for record in caplog.records if record.exc_info], "no traceback"


def test_a_body_that_nobody_reads_ends_the_connection(address: Address) -> None:
    with connect(address) as client:
        client.sendall(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
        began = time.monotonic()
        found = answer(client)
        assert time.monotonic() - began < 0.5
        assert found.count("HTTP/1.1 ") == 1
        assert " 200 " in found
        client.sendall(b"a" * 100_000)


def test_trailers_are_no_headers(address: Address) -> None:
    request = CHUNKED.replace(b"POST /", b"POST /headers")
    found = ask(address, request + b"1\r\na\r\n0\r\nX-API-Key: a\r\n\r\n")
    assert found.endswith("\r\n\r\nhost connection transfer-encoding")


def test_a_body_with_an_upgrade_is_not_lost_silently(address: Address) -> None:
    request = LAST + b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nab"
    found = ask(address, request)
    assert "a request with Upgrade has no body" in found or found.endswith("\r\n2")


@pytest.mark.parametrize(
    "endless",
    [
        (LAST, b"X000001: y\r\n" * 4096),
        (LAST + b"X: ", b"y" * 65536),
        (b"GET /", b"y" * 65536),
        (CHUNKED + b"1\r\na\r\n0\r\n", b"X: y\r\n" * 8192),
        (CHUNKED + b"1;", b"y" * 65536),
    ],
    ids=["headers", "a header", "an address", "trailers", "an extension of a chunk"],
)
def test_what_never_ends_takes_no_memory(address: Address, endless: tuple[bytes, bytes]) -> None:
    start, more = endless
    before, began, sent = memory(), time.monotonic(), 0
    with connect(address) as client:
        client.sendall(start)
        try:
            while sent < 300_000_000:
                client.sendall(more)
                sent += len(more)
            found = answer(client)
        except OSError:  # After the time to linger, the connection is reset.
            found = ""
    assert memory() - before < 20_000_000
    assert time.monotonic() - began < 10
    assert not found or found.split()[1] in ("400", "414", "431")


def test_others_are_answered_while_a_head_is_huge(address: Address) -> None:
    with connect(address) as client:
        client.sendall(LAST + b"X: " + b"y" * 60_000)
        assert ask(address, LAST + b"Content-Length: 2\r\n\r\nab").endswith("2")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", ""),
        (b"GE", "408"),
        (LAST + b"X: ", "408"),
        (LAST + b"Content-Length: 100\r\n\r\nabc", "408"),
        (CHUNKED + b"5\r\nhel", "408"),
    ],
)
def test_who_is_slow_is_dropped(address: Address, sent: bytes, said: str) -> None:
    with connect(address) as client:
        client.sendall(sent)
        began = time.monotonic()
        found = answer(client)
    assert 0.3 < time.monotonic() - began < 3
    assert found.split()[1:2] == ([said] if said else [])


@pytest.mark.parametrize("start", [LAST + b"X: ", LAST + b"Content-Length: 100\r\n\r\n"])
def test_a_byte_at_a_time_is_slow(address: Address, start: bytes) -> None:
    with connect(address) as client:
        client.sendall(start)
        client.settimeout(0.1)
        began = time.monotonic()
        while time.monotonic() - began < 5:
            client.sendall(b"a")
            try:
                found = client.recv(1000)
                break
            except TimeoutError:
                continue
    assert b" 408 " in found
    assert time.monotonic() - began < 3


def test_a_body_at_the_least_rate_is_received(address: Address) -> None:
    """Half a second longer than `body_timeout`, for its bytes."""
    with connect(address) as client:
        client.sendall(LAST + b"Content-Length: 200000\r\n\r\n")
        for _ in range(10):
            client.sendall(b"a" * 20_000)
            time.sleep(0.12)
        assert answer(client).endswith("200000")


def test_what_came_fast_is_no_credit(address: Address) -> None:
    with connect(address) as client:
        client.sendall(LAST + b"Content-Length: 10000000\r\n\r\n" + b"a" * 9_999_999)
        began = time.monotonic()
        found = answer(client)
    assert found.split()[1] == "408"
    assert time.monotonic() - began < 3


def test_idle_connections_are_closed_and_answers_that_take_long_are_not(address: Address) -> None:
    with connect(address) as client:
        began = time.monotonic()
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        found = answer(client)
    assert " 200 " in found
    assert 1.8 < time.monotonic() - began < 6


def test_empty_lines_do_not_keep_a_connection(address: Address) -> None:
    with connect(address) as client:
        client.sendall(HEAD + b"Content-Length: 0\r\n\r\n")
        time.sleep(0.1)
        client.sendall(b"\r\n")
        began = time.monotonic()
        answer(client)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["httptools", "h11"])
def test_silent_connections_shut_nobody_out(protocol: Callable) -> None:
    limits = ConnectionLimits(max_connections=20, head_timeout=30)
    with running(echo, protocol, limits) as address:
        busy = connect(address)
        busy.sendall(HEAD + b"Content-Length: 2\r\n\r\n")
        time.sleep(0.1)
        silent = []
        for _ in range(60):
            silent.append(connect(address))
            assert ask(address, LAST + b"Content-Length: 2\r\n\r\nab").endswith("2")
        busy.sendall(b"ab")
        assert b" 200 " in busy.recv(1000), "who sends is not closed for those who are silent"
        assert silent[0].recv(1) == b"", "the oldest is closed"
        for client in [busy, *silent]:
            client.close()


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["httptools", "h11"])
def test_more_than_the_most_are_told_so(protocol: Callable) -> None:
    with running(echo, protocol, ConnectionLimits(max_connections=3)) as address:
        busy = [connect(address) for _ in range(3)]
        for client in busy:
            client.sendall(HEAD + b"Content-Length: 1\r\n\r\n")
        time.sleep(0.2)
        found = ask(address, LAST + b"\r\n")
        assert " 503 " in found
        assert "retry-after: 1" in found
        crowd = [connect(address) for _ in range(80)]
        refused = [client for client in crowd if b" 503 " in said_to(client)]
        assert 30 < len(refused) < 60, "the others are closed at once"
        for client in crowd:
            client.close()
        for client in busy:
            client.sendall(b"a")
            assert b" 200 " in client.recv(1000)
            client.close()


def test_pipelined_requests(
    address: Address, parser: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = HEAD + b"Content-Length: 3\r\n\r\nabc"
    found = ask(address, one * 9 + LAST + b"Content-Length: 0\r\n\r\n")
    assert found.count("HTTP/1.1 200 OK") == 10
    with connect(address) as client, suppress(OSError):
        client.settimeout(1.5)
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" * 5000)
        # h11 reads them one by one; httptools would keep them all.
        assert client.recv(10) in (b"", b"HTTP/1.1 2" if parser == "h11" else b"")
    time.sleep(1.2)  # until the first would be answered
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_who_does_not_read_is_dropped() -> None:
    async def large(scope: dict, receive: Callable, send: Callable) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"a" * 65536, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    limits = ConnectionLimits(write_timeout=0.5)
    with running(large, httptools_protocol, limits) as address, connect(address) as client:
        client.sendall(LAST + b"\r\n")
        time.sleep(1.8)
        assert len(answer(client)) < 30_000_000, "what the system had taken"

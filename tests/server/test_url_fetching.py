"""URLs in requests: fetched from public addresses only, whatever the name or the redirect."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from test_application import LIMITS, TestClient, jpeg, served_of

import resnetkit
from http_serving import http_serving
from resnetkit.server import url_fetching
from resnetkit.server.application import create_app
from resnetkit.server.dynamic_batching import BusyError
from resnetkit.server.request_images import FetchError
from resnetkit.server.url_fetching import UrlFetcher, is_public


class Pictures(BaseHTTPRequestHandler):
    """Answers by path; ``seen`` has the requests."""

    seen: list[tuple[str, dict[str, str]]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        path, _, rest = self.path.partition("?")
        if path == "/redirect":
            self.answer(302, b"", location=rest)
        elif path == "/again":
            self.answer(301, b"", location="/again")
        elif path == "/gzip":
            self.answer(200, b"x", **{"content-encoding": "gzip"})
        elif path == "/large":
            self.answer(200, bytes(150_000))
        elif path == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(bytes(10_000))
            except OSError:
                pass
        elif path == "/slow":
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(100):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.05)
            except OSError:
                pass
        elif path == "/cut":
            self.send_response(200)
            self.send_header("content-length", "1000")
            self.end_headers()
            self.wfile.write(b"x")
        elif path.endswith(".jpg"):
            self.answer(200, jpeg(int(path[1:-4])), **{"set-cookie": "a=b"})
        else:
            self.answer(404, b"")

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with http_serving(Pictures) as found:
        yield found


def on_this_machine(address: object) -> bool:
    return address == ip_address("127.0.0.1")


def fetched(url: str, **options: object) -> bytes:
    fetcher = UrlFetcher(**{"allowed": on_this_machine, **options})
    return asyncio.run(fetcher.fetch(url, lambda _: None))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("127.0.0.1", False),
        ("127.1.2.3", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("239.1.1.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::127.0.0.1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b:1::808:808", False),
        ("2002:7f00:1::", False),
        ("2001::1", False),
        ("2001:db8::1", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("fe80::1", False),
        ("fe80::1%1", False),
        ("fec0::1", False),
        ("ff02::1", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "10.0.0.1",
        "nowhere.invalid",
    ],
)
def test_nothing_is_asked_of_private_addresses(address: str, host: str) -> None:
    Pictures.seen.clear()
    with pytest.raises(FetchError, match="has no public address"):
        fetched(f"http://{host}:{urlsplit(address).port}/0.jpg", allowed=is_public)
    assert not Pictures.seen


def test_an_image_and_what_is_sent_for_it(address: str) -> None:
    Pictures.seen.clear()
    sizes: list[int] = []
    fetcher = UrlFetcher(allowed=on_this_machine)
    found = asyncio.run(fetcher.fetch(f"{address}/1.jpg?size=2#there", sizes.append))
    assert found == jpeg(1)
    assert sum(sizes) == len(found)
    [(path, headers)] = Pictures.seen
    assert path == "/1.jpg?size=2"
    assert headers["host"] == urlsplit(address).netloc
    assert headers["user-agent"] == f"resnetkit/{resnetkit.__version__}"
    assert set(headers) == {"host", "user-agent", "accept", "accept-encoding", "connection"}


def test_redirects_are_followed_and_checked(address: str) -> None:
    assert fetched(f"{address}/redirect?/2.jpg") == jpeg(2)
    assert fetched(f"{address}/redirect?{address}/redirect?/2.jpg") == jpeg(2)
    port = urlsplit(address).port
    for there, line in [
        (f"http://[::1]:{port}/2.jpg", "::1 has no public address"),
        (f"http://127.0.0.2:{port}/2.jpg", "127.0.0.2 has no public address"),
        ("file:///etc/passwd", "it is not a URL that begins with http"),
        (f"http://a:b@127.0.0.1:{port}/2.jpg", "user name"),
        ("http://127.0.0.1:22/", "the port 22"),
    ]:
        with pytest.raises(FetchError, match=line.replace("[", r"\[")):
            fetched(f"{address}/redirect?{there}")
    Pictures.seen.clear()
    with pytest.raises(FetchError, match="redirects more than 3 times"):
        fetched(f"{address}/again")
    assert len(Pictures.seen) == 4


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("picture.jpg", "it is not a URL that begins with http:// or https://"),
        ("ftp://example.org/a.jpg", "it is not a URL that begins with http:// or https://"),
        ("http:///a.jpg", "it is not a URL that begins with http:// or https://"),
        ("http://[::1/a.jpg", "it is not a URL"),
        ("http://example.org:99999/", "it is not a URL"),
        ("http://example.org/a b", "characters that must be escaped"),
        ("http://example.org/\r\nhost:x", "characters that must be escaped"),
        ("http://exämple.org/", "characters that must be escaped"),
        ("http://me@example.org/", "it has a user name"),
        ("http://example.org:25/", "it has the port 25; it must be 80, 443 or at least 1024"),
        ("ADDRESS/none", "the server answers 404"),
        ("ADDRESS/gzip", "the server sends it compressed"),
        ("ADDRESS/cut", "the server cannot be reached or breaks off"),
        ("http://127.0.0.1:1/", "it has the port 1"),
        ("http://127.0.0.1:UNUSED/", "the server cannot be reached or breaks off"),
        ("ADDRESS/slow", "it took longer than 0.5 seconds"),
        ("https://127.0.0.1:PORT/1.jpg", "the server cannot be reached or breaks off"),
    ],
)
def test_what_cannot_be_fetched(address: str, url: str, line: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        free = unused.getsockname()[1]
    for name, value in {
        "ADDRESS": address,
        "UNUSED": free,
        "PORT": urlsplit(address).port,
    }.items():
        url = url.replace(name, str(value))
    seconds = 0.5 if "slow" in url else 20
    with pytest.raises(FetchError) as caught:
        fetched(url, seconds=seconds)
    assert line in str(caught.value)


@contextmanager
def naming(*answers: str) -> Iterator[list[str]]:
    """The name ``rebound.test`` has another address each time it is resolved."""
    real, asked, left = socket.getaddrinfo, [], list(answers)

    def resolve(host: str, port: int, *rest: object, **more: object) -> list:
        if host != "rebound.test":
            return real(host, port, *rest, **more)
        asked.append(host)
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (one, port)) for one in left.pop(0).split()]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        yield asked


def test_the_address_that_was_checked_is_connected_to(address: str) -> None:
    """A name that changes its address between the check and the connection changes nothing."""
    port = urlsplit(address).port

    class Secret(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            raise AssertionError("the other address was asked")

    with ThreadingHTTPServer(("127.0.0.2", port), Secret) as other:
        serve = {"poll_interval": 0.02}
        threading.Thread(target=other.serve_forever, kwargs=serve, daemon=True).start()
        with naming("127.0.0.1", "127.0.0.2", "127.0.0.2") as asked:
            assert fetched(f"http://rebound.test:{port}/3.jpg") == jpeg(3)
            assert len(asked) == 1
            with pytest.raises(FetchError, match=r"rebound\.test has no public address"):
                fetched(f"http://rebound.test:{port}/3.jpg")
        with (
            naming("127.0.0.1 10.0.0.1"),
            pytest.raises(FetchError, match="has no public address"),
        ):
            fetched(f"http://rebound.test:{port}/3.jpg")
        other.shutdown()


def test_few_urls_wait(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_fetching, "WAITING", 2)

    async def three() -> list[object]:
        fetcher = UrlFetcher(allowed=on_this_machine)
        many = [fetcher.fetch(f"{address}/{n}.jpg", lambda _: None) for n in range(3)]
        found = await asyncio.gather(*many, return_exceptions=True)
        assert await fetcher.fetch(f"{address}/4.jpg", lambda _: None) == jpeg(4)
        return found

    first, second, third = asyncio.run(three())
    assert (first, second) == (jpeg(0), jpeg(1))
    assert isinstance(third, BusyError)


@pytest.fixture(scope="module")
def client_with(bundle_file: Path) -> Callable[..., TestClient]:
    served = served_of(resnetkit.load(bundle_file))

    def made(**options: object) -> TestClient:
        return TestClient(create_app(served, LIMITS, topk=1, fetcher=UrlFetcher(**options)))

    return made


def test_requests_with_urls(
    address: str, client_with: Callable[..., TestClient], bundle_file: Path
) -> None:
    def post(client: TestClient, *urls: str) -> tuple[int, dict]:
        response = client.post("/predict", json={"images": [{"url": url} for url in urls]})
        return response.status_code, response.json()

    with client_with(allowed=on_this_machine) as client:
        urls = [f"{address}/{name}" for name in ("5.jpg", "none", "6.jpg")]
        status, told = post(client, *urls)
        assert status == 200
        assert [one["image"] for one in told["images"]] == urls
        assert told["images"][1]["problem"] == ("the URL cannot be fetched: the server answers 404")
        bundle = resnetkit.load(bundle_file)
        for place, seed in ((0, 5), (2, 6)):
            [expected] = bundle.predict([jpeg(seed)], topk=1)
            assert told["images"][place]["predictions"][0]["label"] == expected.label
        limit = "what this request fetches exceeds the limit of 200,000 bytes"
        for large in ([f"{address}/endless"], [f"{address}/large"] * 2):
            status, told = post(client, *large)
            assert status == 422
            assert limit in told["detail"]
        status, told = post(client, f"{address}/large")
        assert "not an image" in told["detail"]
        status, told = post(client, f"{address}/again", "http://10.0.0.1/x")
        assert status == 422
        assert "10.0.0.1 has no public address" in told["detail"]
    with client_with() as client:
        Pictures.seen.clear()
        assert post(client, f"{address}/5.jpg") == (
            422,
            {
                "detail": f"no image can be read: {address}/5.jpg: the URL cannot be fetched: "
                "127.0.0.1 has no public address"
            },
        )
        assert not Pictures.seen

"""Fetches images from public web servers, for requests that give a URL.

The client chooses the URL, so it could reach servers that only this machine can reach. A connection
is made only to an address that was checked to be public, after the name was resolved once; so names
of private addresses, redirects to them and names whose address changes are refused. Proxies,
cookies and logins are not used.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import httpcore

from resnetkit.server.dynamic_batching import BusyError
from resnetkit.server.request_images import FetchError
from resnetkit.version import __version__

Address = IPv4Address | IPv6Address

#: Seconds to connect, for the next bytes, and for all of a URL with its redirects.
CONNECT, READ, TOTAL = 5.0, 10.0, 30.0
#: Redirects that are followed, connections at a time, and URLs that may wait for one.
REDIRECTS, CONNECTIONS, WAITING = 3, 16, 256
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}
#: Below are services that a request of HTTP could disturb, as mail.
_FIRST_FREE_PORT = 1024
#: Global unicast (RFC 4291), 6to4 (RFC 3056) and NAT64 (RFC 6052); the latter two hold IPv4
#: addresses, and gateways of 6to4 are no longer in use.
_UNICAST, _SIX_TO_FOUR = IPv6Network("2000::/3"), IPv6Network("2002::/16")
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether anyone on the internet can reach the address.

    Private, loopback, link-local, shared, multicast and reserved addresses are not public, nor
    IPv6 addresses that stand for such an IPv4 address.
    """
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None:
            public = address in _UNICAST and address not in _SIX_TO_FOUR
            return public and address.is_global
        address = inner
    return address.is_global and not (address.is_multicast or address.is_reserved)


class UrlFetcher:
    """Fetches images; ``allowed`` decides which addresses may be connected to."""

    def __init__(
        self, *, allowed: Callable[[Address], bool] = is_public, seconds: float = TOTAL
    ) -> None:
        self._allowed, self._seconds = allowed, seconds
        self._ssl = httpcore.default_ssl_context()
        self._turn = asyncio.Semaphore(CONNECTIONS)
        # Names that take long to resolve keep threads busy, and no others shall wait for these.
        self._resolvers = ThreadPoolExecutor(CONNECTIONS, "resolve")
        self._pending = 0

    async def fetch(self, url: str, count: Callable[[int], None]) -> bytes:
        """The content of ``url``; ``count`` is called with the number of bytes of each part.

        Raises ``FetchError`` with the reason, and ``BusyError`` if too many URLs are waiting.
        """
        if self._pending >= WAITING:
            raise BusyError(f"{self._pending} URLs are already waiting")
        self._pending += 1
        try:
            async with asyncio.timeout(self._seconds), self._turn:
                return await self._followed(url, count)
        except TimeoutError:
            raise FetchError(f"it took longer than {self._seconds:g} seconds") from None
        finally:
            self._pending -= 1

    async def _followed(self, url: str, count: Callable[[int], None]) -> bytes:
        backend = _CheckedBackend(self._allowed, self._resolvers)
        async with httpcore.AsyncConnectionPool(
            ssl_context=self._ssl, network_backend=backend
        ) as pool:
            for _ in range(REDIRECTS + 1):
                try:
                    found = await _asked(pool, _parts(url), count)
                except httpcore.TimeoutException:
                    raise FetchError("the server does not answer in time") from None
                except (httpcore.NetworkError, httpcore.ProtocolError):
                    raise FetchError("the server cannot be reached or breaks off") from None
                if isinstance(found, bytes):
                    return found
                url = urljoin(url, found)
        raise FetchError(f"it redirects more than {REDIRECTS} times")


def _parts(url: str) -> SplitResult:
    """The parts of a URL that may be fetched. Raises ``FetchError``."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise FetchError("it is not a URL") from None
    if parts.scheme not in _PORTS or not host:
        raise FetchError("it is not a URL that begins with http:// or https://")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise FetchError("it has characters that must be escaped with %")
    if "@" in parts.netloc:
        raise FetchError("it has a user name; only what needs no login is fetched")
    if port is not None and port < _FIRST_FREE_PORT and port not in _PORTS.values():
        raise FetchError(f"it has the port {port}; it must be 80, 443 or at least 1024")
    return parts


async def _asked(
    pool: httpcore.AsyncConnectionPool, parts: SplitResult, count: Callable[[int], None]
) -> bytes | str:
    """The content, or where it redirects to."""
    assert parts.hostname is not None
    headers: dict[bytes | str, bytes | str] = {
        "host": parts.netloc,
        "user-agent": f"resnetkit/{__version__}",
        "accept": "image/*",
        "accept-encoding": "identity",
        "connection": "close",
    }
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    where = httpcore.URL(scheme=parts.scheme, host=parts.hostname, port=parts.port, target=target)
    times = {"connect": CONNECT, "read": READ, "write": READ, "pool": CONNECT}
    async with pool.stream(
        "GET", where, headers=headers, extensions={"timeout": times}
    ) as response:
        told = {name.lower(): value for name, value in response.headers}
        if response.status in _REDIRECTS and b"location" in told:
            return told[b"location"].decode("latin-1")
        if response.status != HTTPStatus.OK:
            raise FetchError(f"the server answers {response.status}")
        if told.get(b"content-encoding", b"identity").lower() != b"identity":
            raise FetchError("the server sends it compressed, which was not asked for")
        content = bytearray()
        async for chunk in response.aiter_stream():
            count(len(chunk))
            content += chunk
    return bytes(content)


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Resolves a name once, checks all its addresses, and connects to one of these."""

    def __init__(self, allowed: Callable[[Address], bool], resolvers: Executor) -> None:
        self._allowed, self._resolvers = allowed, resolvers
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        problem: Exception = httpcore.ConnectError()
        for address in await self._checked(host, port):
            try:
                return await self._backend.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
        raise problem

    async def _checked(self, host: str, port: int) -> list[str]:
        """The addresses of a host, if all of them are allowed."""
        resolve = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._resolvers, resolve)
        except (OSError, UnicodeError):
            found = []
        addresses = [str(where[0]) for *_, where in found]
        if not addresses or not all(self._allowed(ip_address(one)) for one in addresses):
            # The same words for both: they tell nothing of names that only this network knows.
            raise FetchError(f"{host} has no public address")
        return addresses

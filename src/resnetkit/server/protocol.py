"""HTTP/1.1 for uvicorn with the limits of ``ConnectionLimits``, over httptools or h11."""

from __future__ import annotations

import asyncio
import http
import json
from typing import TYPE_CHECKING, Any, cast

from resnetkit.server.connections import ConnectionLimits, Connections
from resnetkit.server.security_headers import HEADERS

#: Bytes that are parsed before the limits are checked again.
_PIECE = 16 << 10
#: Requests that a client may send before it has the answer to the first.
_MOST_PIPELINED = 16

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as _Base
else:
    _Base = asyncio.Protocol


class _Closing:
    """A transport whose ``close`` is that of the protocol, which may have to wait."""

    def __init__(self, transport: asyncio.Transport, protocol: _Limited) -> None:
        self._transport, self._protocol = transport, protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._protocol.closing:
            self._transport.write(data)

    def close(self) -> None:
        self._protocol.close()

    def is_closing(self) -> bool:
        return self._protocol.closing


class _Limited(_Base):
    """What the protocols over httptools and h11 have in common.

    Bytes are counted before they are parsed. ``_unproductive`` are those received since the last
    part of a body or the end of a head: the parsers keep them, so there are few.
    """

    limits: ConnectionLimits
    open_connections: Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._raw = transport
        self._unproductive = self._line_bytes = 0
        self._line_ended = False
        self._connected, self._head_began = self.loop.time(), cast("float | None", None)
        self._body_began, self._body_bytes = 0.0, 0  # of the present interval
        self._lingers_until: float | None = None
        self._write_paused: float | None = None
        self._closing_since: float | None = None
        super().connection_made(cast("asyncio.Transport", _Closing(transport, self)))
        if not self.open_connections.add(self, self.loop):
            self.refuse(503, "too many connections; try again", "retry-after: 1\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self.open_connections.remove(self)
        super().connection_lost(exc)

    @property
    def closing(self) -> bool:
        """Whether no more is written."""
        return self._lingers_until is not None or self._raw.is_closing()

    @property
    def _answering(self) -> bool:
        """Whether a request waits for its answer, or a part of it."""
        return self.cycle is not None and not self.cycle.response_complete

    def _in_body(self) -> bool:
        """Whether a head is complete and its body is not."""
        raise NotImplementedError

    def _pipelined(self) -> bool:
        """Whether an earlier request waits for its answer."""
        return False

    def data_received(self, data: bytes) -> None:
        if self._lingers_until is not None:
            return
        if self._head_began is None and not self._in_body():
            self._head_began = self.loop.time()
        start = 0
        while start < len(data) and not self.closing:
            size = min(_PIECE, self.limits.max_head_bytes + 1 - self._unproductive)
            self._feed(data[start : start + size])
            start += size

    def _feed(self, piece: bytes) -> None:
        if not self._in_body() and not self._line_ended:
            end = piece.find(b"\n")
            self._line_ended = end >= 0
            self._line_bytes += end if end >= 0 else len(piece)
            if self._line_bytes > self.limits.max_line_bytes:
                most = self.limits.max_line_bytes
                self.refuse(414, f"the request line is longer than {most:,} bytes")
                return
        self._unproductive += len(piece)
        super().data_received(piece)
        if self._unproductive > self.limits.max_head_bytes and not self.closing:
            most = self.limits.max_head_bytes
            self.refuse(431, f"the request's headers are larger than {most:,} bytes")

    def _head_complete(self) -> None:
        self._unproductive = self._line_bytes = 0
        self._line_ended, self._head_began = False, None
        self._body_began, self._body_bytes = self.loop.time(), 0
        self.open_connections.owes_a_request(self, False)

    def _body_received(self, size: int) -> None:
        self._unproductive = 0
        self._body_bytes += size

    def on_response_complete(self) -> None:
        if self._in_body():  # The rest of the body is not wanted.
            self.close()
        super().on_response_complete()
        if not self._answering and not self.closing:
            self._head_began = None if self._head_began is None else self.loop.time()
            self.open_connections.owes_a_request(self, True)

    def send_400_response(self, msg: str) -> None:
        self.refuse(400, "the request is not valid HTTP/1.1")

    def _unsupported_upgrade_warning(self) -> None:
        """The request is answered as if it asked for no upgrade."""

    def refuse(self, status: int, reason: str, headers: str = "") -> None:
        """Answer with one line, unless an answer has begun, and close the connection."""
        begun = self._answering and (self.cycle.response_started or self._pipelined())
        if not begun and not self.closing:
            self._raw.write(_answer(status, reason, headers))
        if self._answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._linger()

    def close(self) -> None:
        """Close the connection, and before it receive what the client is about to send."""
        if self.closing:
            return
        if self._in_body():
            self._linger()
        else:
            self._raw.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._raw.abort()

    def _linger(self) -> None:
        # Closing with unread bytes resets the connection, and the client loses the answer.
        if self.closing:
            return
        self._unset_keepalive_if_required()
        self.open_connections.owes_a_request(self, False)
        self._lingers_until = self.loop.time() + self.limits.linger
        self.flow.resume_reading()
        if self._raw.can_write_eof():
            self._raw.write_eof()

    def shutdown(self) -> None:
        if self._lingers_until is not None:
            self.abort()
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        self._write_paused = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._write_paused = None
        super().resume_writing()

    def check(self, now: float) -> None:
        """Close the connection if it has taken too long."""
        limits = self.limits
        if self._lingers_until is not None:
            if now > self._lingers_until:
                self.abort()
        elif self._raw.is_closing():
            self._closing_since = self._closing_since or now
            if now > self._closing_since + limits.linger:
                self.abort()
        elif self._write_paused is not None and now > self._write_paused + limits.write_timeout:
            self.abort()
        elif self._in_body():
            enough = self._body_bytes >= limits.min_body_rate * limits.body_timeout
            if enough or self.flow.read_paused:  # Paused: the server is slow, not the client.
                self._body_began, self._body_bytes = now, 0
            elif now > self._body_began + limits.body_timeout:
                self.refuse(408, f"the body is sent at less than {limits.min_body_rate:,} bytes/s")
        elif not self._answering:
            began = self._connected if self.cycle is None else None
            began = self._head_began if self._head_began is not None else began
            if began is not None and now > began + limits.head_timeout:
                self._late_head()

    def _late_head(self) -> None:
        if self._head_began is None:
            self._raw.close()
        else:
            seconds = self.limits.head_timeout
            self.refuse(408, f"the request's headers took longer than {seconds:g} seconds")


def limited_protocol(limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """A protocol for ``uvicorn.Config(http=...)``; one server's connections are counted together.

    It uses httptools, or h11 where httptools is not installed.
    """
    try:
        import httptools  # noqa: F401
    except ImportError:
        return h11_protocol(limits)
    return httptools_protocol(limits)


def httptools_protocol(limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """The protocol over httptools."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class LimitedHttpTools(_Limited, HttpToolsProtocol):
        _body_open = False

        def _in_body(self) -> bool:
            return self._body_open

        def _pipelined(self) -> bool:
            return bool(self.pipeline)

        def on_header(self, name: bytes, value: bytes) -> None:
            if not self._body_open:  # Trailers are no headers.
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            self._head_complete()
            self._body_open = True
            if len(self.pipeline) > _MOST_PIPELINED:
                self.abort()

        def _unsupported_upgrade_warning(self) -> None:
            # The parser reads no further: neither a body nor another request.
            self.cycle.keep_alive = False
            headers = dict(self.headers)
            if b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0":
                self.refuse(400, "a request with Upgrade has no body; send it without Upgrade")

        def on_body(self, body: bytes) -> None:
            self._body_received(len(body))
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._body_open = False
            self._unproductive = 0
            super().on_message_complete()

    return _of(LimitedHttpTools, limits)


def h11_protocol(limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """The protocol over h11."""
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class LimitedH11(_Limited, H11Protocol):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            # Checked by h11 as well, for what follows a head.
            self.conn = h11.Connection(h11.SERVER, 2 * limits.max_head_bytes)
            super().connection_made(transport)

        def _in_body(self) -> bool:
            return self.conn.their_state is h11.SEND_BODY

        def _feed(self, piece: bytes) -> None:
            was = self._in_body()
            super()._feed(piece)
            if was:
                self._body_received(len(piece))
            elif self._in_body() or self._answering:
                self._head_complete()

    return _of(LimitedH11, limits)


def _of(protocol: type[Any], limits: ConnectionLimits) -> type[asyncio.Protocol]:
    protocol.limits, protocol.open_connections = limits, Connections(limits)
    return cast("type[asyncio.Protocol]", protocol)


def _answer(status: int, reason: str, headers: str) -> bytes:
    line = f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n"
    fixed = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    body = json.dumps({"detail": reason})
    return (
        f"{line}{fixed}{headers}content-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n{body}"
    ).encode("ascii")

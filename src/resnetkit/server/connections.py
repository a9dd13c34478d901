"""Limits of connections: how many, how large a request's head is, and how long a client may take.

The numbers are in ``ConnectionLimits``; ``protocol.py`` applies them.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

#: Most connections by default, and most files that the process asks to have open.
MOST_CONNECTIONS, MOST_FILES = 4096, 65536
#: Files kept free: for parts of forms on disk, for what the process opens besides, and for
#: connections that are accepted before another one is closed.
RESERVED_FILES = 512
#: Connections that the system may accept before the server does.
BACKLOG = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Limits of connections. Sizes are in bytes, times in seconds.

    A request line has at most ``max_line_bytes``, and with all headers ``max_head_bytes``; the same
    holds for what else is no body, e.g. trailers. A head is complete ``head_timeout`` after its
    first byte or the connection. Of a body, ``min_body_rate`` bytes per second are received in
    each ``body_timeout``, or the rest. An idle connection is closed after ``keep_alive``. A client
    has ``write_timeout`` to read its answer. After an early answer, what the client still sends is
    discarded for ``linger``, so that it can read the answer.

    Of more than ``max_connections``, the one that has owed a request for the longest is closed; if
    there is none, the new one is answered 503.
    """

    max_line_bytes: int = 16 << 10
    max_head_bytes: int = 64 << 10
    head_timeout: float = 10
    body_timeout: float = 10
    min_body_rate: int = 10_000
    keep_alive: int = 5
    write_timeout: float = 30
    linger: float = 10
    max_connections: int = 1000


class Connection(Protocol):
    """A connection that ``Connections`` knows."""

    def check(self, now: float) -> None:
        """Close the connection if it has taken too long."""

    def abort(self) -> None:
        """Close the connection at once."""


class Connections:
    """The open connections of a server; several times per ``head_timeout``, each is checked."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._period = min(0.5, limits.head_timeout / 4, limits.linger / 4)
        self._open: set[Connection] = set()
        #: Those that owe a request; the first for the longest time.
        self._waiting: dict[Connection, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> bool:
        """Add a new connection; whether there is room for it."""
        room = True
        if len(self._open) >= self._limits.max_connections:
            room = bool(self._waiting)
            if room:
                oldest = next(iter(self._waiting))
                self.remove(oldest)
                oldest.abort()
            elif len(self._open) >= self._limits.max_connections + RESERVED_FILES // 10:
                connection.abort()
                return False
        self._open.add(connection)
        if room:
            self._waiting[connection] = None
        if self._timer is None:
            self._timer = loop.call_later(self._period, self._check, loop)
        return room

    def remove(self, connection: Connection) -> None:
        """Forget a closed connection."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    def owes_a_request(self, connection: Connection, owes: bool) -> None:
        """State whether a connection owes a request, from now on."""
        self._waiting.pop(connection, None)
        if owes and connection in self._open:
            self._waiting[connection] = None

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in tuple(self._open):
            connection.check(now)
        again = bool(self._open)
        self._timer = loop.call_later(self._period, self._check, loop) if again else None


def connections_allowed() -> int:
    """How many connections the process can have open; raises its limit of open files if it may."""
    if sys.platform == "win32":
        return 500
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS has another limit, which is lower.
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    most = MOST_FILES if soft == resource.RLIM_INFINITY else soft
    used = len(os.listdir("/dev/fd"))
    return max(4, min(MOST_CONNECTIONS, most - used - min(RESERVED_FILES, most // 2)))

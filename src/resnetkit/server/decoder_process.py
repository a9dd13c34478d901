"""Decodes images from strangers: a process of its own, started by ``decoder_pool``.

It reads requests from a socket, whose file descriptor is its argument, and writes answers to it,
until the other end is closed. It may use a bounded amount of memory and write no files. If a
decoder hangs, its parent kills this process.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from resnetkit.data.decoding import decode, fast_decode
from resnetkit.data.decoding.decode import Cut, UnreadableImageError
from resnetkit.preprocess import Preprocess

#: The lengths of the description and of the image.
REQUEST = struct.Struct("<II")
#: The kind of an answer, and its length, or the height, width and channels of pixels.
ANSWER = struct.Struct("<BIII")
#: Sent once it can answer.
READY = b"."
PIXELS, UNREADABLE, FAILED, TURN = range(4)


def receive(connection: socket.socket, size: int) -> bytearray:
    """Exactly so many bytes. Raises ``EOFError`` if the other end is closed before."""
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return data


class _Turn:
    """Waits until the parent allows an image of very many pixels."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.sendall(ANSWER.pack(TURN, 0, 0, 0))
        receive(self._connection, 1)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """The parent ends the turn when it has the answer."""


@cache
def _preprocess(document: str) -> Preprocess:
    return Preprocess.from_dict(json.loads(document))


def _pixels(image: bytes, way: str, preprocess: Preprocess) -> Cut:
    if way == "whole":
        return decode.whole(image, preprocess)
    if way == "exact":
        return decode.pixels_of(image, preprocess)
    return fast_decode.pixels_of(image, preprocess, torch=False)


def _answer(connection: socket.socket, description: dict[str, Any], image: bytes) -> None:
    text = ""
    try:
        preprocess = _preprocess(description["preprocess"])
        pixels = _pixels(image, description["way"], preprocess)
    except UnreadableImageError as error:
        kind, text = UNREADABLE, error.reason
    except MemoryError:
        kind, text = UNREADABLE, "there is not enough memory for it"
    except Exception as error:
        kind, text = FAILED, f"{type(error).__name__}: {error}"
    else:
        connection.sendall(ANSWER.pack(PIXELS, *pixels.shape))
        connection.sendall(pixels.tobytes())
        return
    data = text.encode("utf-8", "replace")
    connection.sendall(ANSWER.pack(kind, len(data), 0, 0) + data)


def _limit(memory: int) -> None:
    """Bound the memory beyond what is used now, and forbid to write files, where that is possible:
    on Linux."""
    with suppress(ImportError, FileNotFoundError):
        import resource

        pages = Path("/proc/self/statm").read_text().split()[0]
        most = int(pages) * os.sysconf("SC_PAGE_SIZE") + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(descriptor: int, memory: int) -> None:
    """Answer requests until the other end is closed."""
    # Ctrl-C reaches all processes of a terminal, and systemd's SIGTERM all of a service; the parent
    # finishes what it has taken, and then closes the other end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Pillow's, about files of strangers.
    warnings.simplefilter("ignore")
    _limit(memory)
    with socket.socket(fileno=descriptor) as connection:
        decode.many = _Turn(connection)
        try:
            connection.sendall(READY)
            while True:
                lengths = REQUEST.unpack(receive(connection, REQUEST.size))
                description, image = (bytes(receive(connection, length)) for length in lengths)
                _answer(connection, json.loads(description), image)
        except (EOFError, ConnectionError):
            return


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

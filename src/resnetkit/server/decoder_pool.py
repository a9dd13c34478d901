"""Decodes images in processes of their own, each with a deadline and bounded memory."""

from __future__ import annotations

import json
import math
import os
import queue
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Literal

import numpy as np

from resnetkit.data.decoding.decode import Cut, UnreadableImageError
from resnetkit.preprocess import Preprocess
from resnetkit.server.decoder_process import (
    ANSWER,
    PIXELS,
    READY,
    REQUEST,
    TURN,
    UNREADABLE,
    receive,
)

#: Bytes that a decoder may use: the largest image that is read needs 20 bytes per pixel.
MEMORY = 3 << 30
#: Seconds that a new decoder has, which is no image's fault.
START = 60.0
#: Keeps the C library from giving the memory of each image back and taking it again.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
#: ``exact`` and ``fast`` pixels are resized and cropped, of ``whole`` images nothing is.
Way = Literal["exact", "fast", "whole"]


class _DeadError(Exception):
    """A decoder hangs or has died."""


class _Process:
    """A decoder; see ``decoder_process``."""

    def __init__(self, memory: int) -> None:
        self.connection, theirs = socket.socketpair()
        self._ready = False
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "resnetkit.server.decoder_process",
                    str(number),
                    str(memory),
                ],
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
                env={
                    **KEEP_MEMORY,
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                },
            )

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Wait for a new process. Raises ``_DeadError``."""
        if not self._ready:
            self.receive(len(READY), START)
            self._ready = True

    def send(self, data: bytes, seconds: float) -> None:
        """Send bytes. Raises ``_DeadError``."""
        self.connection.settimeout(seconds)
        try:
            self.connection.sendall(data)
        except TimeoutError:
            raise _DeadError(f"it takes longer than {seconds:g} s to decode") from None
        except OSError:
            raise _DeadError("its decoder crashed") from None

    def receive(self, size: int, seconds: float) -> bytearray:
        """So many bytes. Raises ``_DeadError``."""
        self.connection.settimeout(seconds)
        try:
            return receive(self.connection, size)
        except TimeoutError:
            raise _DeadError(f"it takes longer than {seconds:g} s to decode") from None
        except (EOFError, OSError):
            raise _DeadError("its decoder crashed") from None

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """End it; one that is idle does so by itself."""
        self.connection.close()
        self._process.wait()


class DecoderPool:
    """Up to ``count`` decoders, started when they are needed; used from as many threads.

    One that takes longer than ``deadline`` seconds, or dies, is replaced.
    """

    def __init__(self, count: int, deadline: float, memory: int = MEMORY) -> None:
        self.threads = ThreadPoolExecutor(count, "decode")
        self._count, self._deadline, self._memory = count, deadline, memory
        self._idle: queue.LifoQueue[_Process] = queue.LifoQueue()
        self._running, self._starting = 0, threading.Lock()
        self._large = threading.Lock()
        self._idle.put(self._started())

    def _started(self) -> _Process:
        process = _Process(self._memory)
        self._running += 1
        return process

    def _taken(self) -> _Process:
        with suppress(queue.Empty):
            if (idle := self._idle.get_nowait()).runs:
                return idle
            self._discard(idle)
        with self._starting:
            if self._running < self._count:
                return self._started()
        return self._idle.get()

    def _discard(self, decoder: _Process) -> None:
        decoder.kill()
        with self._starting:
            self._running -= 1

    def decode(self, image: bytes, preprocess: Preprocess, way: Way) -> Cut:
        """The pixels of an encoded image ``(H, W, C)``.

        Raises ``UnreadableImageError``, also for one that takes too long or kills its decoder.
        """
        decoder = self._taken()
        try:
            with ExitStack() as turn:
                kind, answer = self._ask(decoder, image, preprocess, way, turn)
        except BaseException as error:
            self._discard(decoder)
            if isinstance(error, _DeadError):
                raise UnreadableImageError("image", str(error)) from None
            raise
        self._idle.put(decoder)
        if kind == PIXELS:
            return answer
        reason = answer.tobytes().decode()
        if kind == UNREADABLE:
            raise UnreadableImageError("image", reason)
        raise RuntimeError(f"a decoder failed: {reason}")

    def _ask(
        self,
        decoder: _Process,
        image: bytes,
        preprocess: Preprocess,
        way: Way,
        turn: ExitStack,
    ) -> tuple[int, Cut]:
        """The kind of the answer, and its pixels or characters."""
        decoder.wait_until_ready()
        description = json.dumps({"preprocess": json.dumps(preprocess.to_dict()), "way": way})
        lengths = REQUEST.pack(len(description), len(image))
        decoder.send(lengths + description.encode(), self._deadline)
        decoder.send(image, self._deadline)
        kind, *shape = ANSWER.unpack(decoder.receive(ANSWER.size, self._deadline))
        if kind == TURN:
            turn.enter_context(self._large)
            decoder.send(b".", self._deadline)
            kind, *shape = ANSWER.unpack(decoder.receive(ANSWER.size, self._deadline))
        size = shape if kind == PIXELS else shape[:1]
        data = decoder.receive(math.prod(size), self._deadline)
        return kind, np.frombuffer(data, np.uint8).reshape(size)

    def close(self) -> None:
        """Finish what was begun, and end all decoders."""
        self.threads.shutdown()
        while not self._idle.empty():
            self._idle.get_nowait().close()

"""Runs several workers on one socket, and starts those that die again."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Literal

from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import available
from resnetkit.server.metrics import SHARED_FOLDER, forget_process
from resnetkit.server.worker import Settings, orderly_end, run

#: A worker that dies within so many seconds of its start, so often in a row, is not started again.
SHORT_LIFE, MOST_SHORT_LIVES = 10.0, 5
_Message = tuple[Literal["start", "say", "error"], str]


class _Worker:
    """A process that serves, with the messages that it sends."""

    def __init__(self, number: int, settings: Settings, listening: socket.socket) -> None:
        # Spawned, as threads of engines do not survive a fork.
        context = get_context("spawn")
        self.number, self.began = number, time.monotonic()
        self.messages, sent = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(
            target=_work, args=(settings, listening, sent), name=f"worker {number}"
        )
        self.process.start()
        sent.close()

    def receive(self) -> _Message | None:
        """The next message; None once the process has ended."""
        try:
            message: _Message = self.messages.recv()
        except (EOFError, OSError):
            return None
        return message


def supervise(
    settings: Settings,
    listening: socket.socket,
    count: int,
    *,
    on_start: Callable[[str], None],
    say: Callable[[str], None],
) -> None:
    """Serve with ``count`` workers, which share the CPUs, until SIGTERM or SIGINT.

    The first is started alone, so that what is measured and cached once is known to the others.
    Raises ``InputError`` for a model that cannot be served, and if workers die again and again.
    """
    threads = settings.options.threads or max(1, available() // count)
    settings = replace(settings, options=replace(settings.options, threads=threads))
    workers: list[_Worker] = []
    with tempfile.TemporaryDirectory(prefix="resnetkit-metrics-") as folder:
        os.environ[SHARED_FOLDER] = folder
        try:
            for number in range(count):
                workers.append(_Worker(number, settings, listening))
                line = _started(workers[-1])
            on_start(f"{line}, {count} workers")
            _forward_hangups(workers)
            _watch(workers, settings, listening, say)
        finally:
            del os.environ[SHARED_FOLDER]
            _end(workers, settings.grace, say)


def _started(worker: _Worker) -> str:
    """The first line of a worker that serves. Raises its ``InputError``."""
    message = worker.receive()
    if message is None:
        worker.process.join()
        raise InputError(f"a worker died while it opened the models ({_cause(worker)})")
    kind, line = message
    if kind == "error":
        raise InputError(line)
    return line


def _watch(
    workers: list[_Worker],
    settings: Settings,
    listening: socket.socket,
    say: Callable[[str], None],
) -> None:
    """Print what workers say, and replace those that end."""
    short_lives = 0
    while True:
        for ready in connection.wait([worker.messages for worker in workers]):
            worker = next(one for one in workers if one.messages is ready)
            message = worker.receive()
            if message is not None and message[0] == "say":
                say(f"worker {worker.number}: {message[1]}")
            if message is not None and message[0] != "error":
                continue
            worker.process.join()
            forget_process(worker.process.pid)
            died = time.monotonic()
            short_lives = short_lives + 1 if died - worker.began < SHORT_LIFE else 0
            if short_lives >= MOST_SHORT_LIVES:
                raise InputError(f"workers die again and again ({_cause(worker)})")
            cause = _cause(worker) if message is None else message[1]
            workers[workers.index(worker)] = _Worker(worker.number, settings, listening)
            say(f"worker {worker.number} ended ({cause}) and is started again")


def _cause(worker: _Worker) -> str:
    code = worker.process.exitcode or 0
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _forward_hangups(workers: list[_Worker]) -> None:
    """Pass SIGHUP on to all workers."""

    def forward(number: int, _: object) -> None:
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker.process.pid or 0, number)

    if workers and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, forward)


def _end(workers: list[_Worker], grace: float, say: Callable[[str], None]) -> None:
    for worker in workers:
        worker.process.terminate()
    end = time.monotonic() + grace + 5
    for worker in workers:
        worker.process.join(max(0.0, end - time.monotonic()))
        worker.process.kill()
        worker.process.join()
        while worker.messages.poll() and (message := worker.receive()):
            say(f"worker {worker.number}: {message[1]}")


def _work(settings: Settings, listening: socket.socket, sent: Connection) -> None:
    """The main function of a worker."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    with orderly_end(), listening:
        try:
            run(
                settings,
                listening,
                on_start=lambda line: sent.send(("start", line)),
                say=lambda line: sent.send(("say", line)),
            )
        except KeyboardInterrupt:
            sys.exit(130)
        except InputError as error:
            sent.send(("error", str(error)))


def _follow_parent() -> None:
    """End in an orderly way when the supervisor has died."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

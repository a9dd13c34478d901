"""The connection to a Ray cluster, and its end: Ray ends a process without a word, or waits for
ever, when the processes that it is connected to are gone."""

from __future__ import annotations

import logging
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from resnetkit.errors import InputError, require
from resnetkit.inference.engines.engine import available
from resnetkit.version import __version__

#: Seconds to wait for the head of a cluster, and between two looks at it.
_WAIT = 5.0
#: Seconds without an answer of the head after which it is lost. Ray ends the process after 60.
PATIENCE = 30.0
#: The type of the first frame of HTTP/2, and the client's greeting: the preface and such a frame.
_SETTINGS = b"\x04"
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + _SETTINGS + bytes(5)
#: Bytes of the object store of a cluster on this machine, besides three copies of the model.
_STORE = 256 << 20


class LostClusterError(InputError):
    """The head or Ray's process on this machine is gone. Ray may wait for them when the Python
    process ends."""


@contextmanager
def connected(address: str | None, model: int) -> Iterator[str | None]:
    """Connect to the cluster, or start one on this machine; a connection of the caller is used.

    ``model`` is the size of the model's files. Yields the address of the dashboard, if there is
    one and the connection is made here.
    """
    there = sys.modules.get("ray")
    if there is not None and there.is_initialized():
        yield None
        return
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address is not None and "://" in address:
        raise InputError(
            f"address is {address}; give HOST:PORT of the head, and run the command on a machine "
            "of the cluster",
            field="address",
        )
    _check_reachable(address)
    # Read when it is imported: no reports to its makers, only fatal messages of its processes, no
    # new connection after the end of this one, and this process does not end with the head.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    if address is not None:
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "3600")
    import ray
    import ray.data

    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"logging_level": logging.CRITICAL, "log_to_driver": False}
    try:
        if address is None:
            options |= {"num_cpus": available(), "object_store_memory": _STORE + 3 * model}
            options["include_dashboard"] = False
        with _quiet():
            context = ray.init(address or "local", **options)
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        reason = str(error.__cause__ or error)
        if "Authentication" in reason:
            hint = "it asks for a token: set RAY_AUTH_MODE=token, with the token in ~/.ray"
        elif "Traceback" in reason:
            # Ray gives the traceback of its last attempt.
            hint = "its head does not answer; start one by ray start, or give its HOST:PORT"
        else:
            hint = " ".join(reason.split())[:200]
        where = "on this machine" if address in (None, "auto") else f"at {address}"
        raise InputError(f"no Ray cluster {where}: {hint}", field="address") from None
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield _dashboard(context.dashboard_url)
    finally:
        # It may wait for a head that is gone.
        end = threading.Thread(target=ray.shutdown, daemon=True)
        end.start()
        end.join(2 * _WAIT)


def nodes() -> list[dict[str, Any]]:
    """The machines of the cluster that answer."""
    ray = require("ray", "predicting on Ray")
    return [node for node in ray.nodes() if node["Alive"]]


def free_cpus() -> int:
    """The processors of the cluster that no job has."""
    ray = require("ray", "predicting on Ray")
    return int(ray.available_resources().get("CPU", 0))


def watched(
    rows: Callable[[], Iterable[dict[str, Any]]],
) -> Generator[tuple[dict[str, Any], int]]:
    """Each row of a dataset, and the number of machines that have been lost since the first.

    Raises ``InputError`` if the dataset fails, and ``LostClusterError``. The rows are read by
    another thread, as Ray may wait for ever.
    """
    answers: queue.SimpleQueue[tuple[dict[str, Any], int] | Exception | None] = queue.SimpleQueue()
    ended = threading.Event()

    def read() -> None:
        try:
            first, asked, lost = len(nodes()), time.monotonic(), 0
            for row in rows():
                if time.monotonic() > asked + 1:
                    asked, lost = time.monotonic(), max(0, first - len(nodes()))
                answers.put((row, lost))
                if ended.is_set():
                    return
            answers.put(None)
        except Exception as error:
            answers.put(error)

    watch = _Watch()
    reader = threading.Thread(target=read, name="resnetkit-ray", daemon=True)
    reader.start()
    try:
        while True:
            watch.look()
            try:
                answer = answers.get(timeout=1)
            except queue.Empty:
                continue
            if answer is None:
                return
            if isinstance(answer, Exception):
                raise _of_ray(answer)
            yield answer
    except LostClusterError:
        raise
    except BaseException:
        # Ray must end the dataset before the connection ends.
        ended.set()
        reader.join(_WAIT)
        raise


class _Watch:
    """Looks whether the head and Ray's process on this machine answer."""

    def __init__(self) -> None:
        ray = require("ray", "predicting on Ray")
        context = ray.get_runtime_context()
        self._head = str(context.gcs_address)
        here = next(node for node in nodes() if node["NodeID"] == context.get_node_id())
        self._here = f"{here['NodeManagerAddress']}:{here['NodeManagerPort']}"
        self._looked = self._answered = time.monotonic()

    def look(self) -> None:
        """Raise ``LostClusterError`` if one of them is gone."""
        if time.monotonic() < self._looked + _WAIT:
            return
        again = "start the cluster again, and repeat the same call to go on"
        if _refusal(self._here):
            raise LostClusterError(f"Ray has ended on this machine; {again}")
        if not _refusal(self._head):
            self._answered = time.monotonic()
        elif time.monotonic() > self._answered + PATIENCE:
            raise LostClusterError(
                f"the head of the cluster, {self._head}, does not answer; {again}"
            )
        self._looked = time.monotonic()


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what Ray's native code writes to stderr as it starts; failures are exceptions."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _check_reachable(address: str | None) -> None:
    if ":" not in (address or ""):
        if address not in (None, "auto"):
            raise InputError(
                f"address is {address}; give HOST:PORT of the head of the cluster, or auto",
                field="address",
            )
        return
    reason = _refusal(str(address), speaks=os.environ.get("RAY_USE_TLS", "0") == "0")
    if not reason and str(address).endswith(":10001"):
        reason = "that is the port of Ray Client"
    if reason:
        raise InputError(
            f"no Ray cluster at {address}: {reason}; give HOST:PORT of its head, whose port is "
            "6379 by default",
            field="address",
        )


def _refusal(address: str, *, speaks: bool = False) -> str:
    """Why nothing answers at ``HOST:PORT``; empty if something does. With ``speaks`` it must answer
    as gRPC does: Ray would try it again for minutes, and end the process."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_WAIT) as connection:
            if speaks:
                connection.sendall(_GREETING)
                if connection.makefile("rb").read(4)[3:] != _SETTINGS:
                    return "something else answers there, such as the dashboard"
    except (OSError, ValueError, OverflowError) as error:
        return str(getattr(error, "strerror", None) or error)
    return ""


def _dashboard(address: str | None) -> str | None:
    """The page of this job in Ray's dashboard; None if the cluster has none."""
    if not address:
        return None
    ray = require("ray", "predicting on Ray")
    return f"http://{address}/#/jobs/{ray.get_runtime_context().get_job_id()}"


def _of_ray(error: Exception) -> Exception:
    """An error of Ray in one line; others as they are."""
    ray = require("ray", "predicting on Ray")
    if not isinstance(error, ray.exceptions.RayError):
        return error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1] if lines else type(error).__name__
    if "No module named 'resnetkit'" in str(error):
        return InputError(
            f"a machine of the cluster has no resnetkit; install {__version__} on all of them"
        )
    return InputError(f"the cluster failed: {last[:300]}")

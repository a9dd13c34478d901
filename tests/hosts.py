"""Several hosts on one machine: network namespaces, each with a name and an address of its own.

A host has its own interface, address and host name; the hosts reach each other through a bridge in
a further namespace, and nothing else. Files and processors are the machine's. Root and iproute2
are needed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


@dataclass(frozen=True, eq=False)
class Host:
    """A host: its ``name`` is known to the others, ``namespace`` to this machine."""

    name: str
    address: str
    namespace: str
    _started: list[subprocess.Popen[str]] = field(default_factory=list, repr=False)

    def start(
        self,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start a command on the host, as the leader of a session of its own."""
        # The name is that of a UTS namespace, which ends with the command.
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', self.name]
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *named, *map(str, command)],
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            text=True,
            **options,
        )
        self._started.append(process)
        return process

    def run(
        self, command: Sequence[str | Path], **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host to its end; its output is captured."""
        timeout = options.pop("timeout", 120)
        process = self.start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"not finished in {timeout} s: {command}\n{out}\n{err}") from None
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def processes(self) -> list[int]:
        """The processes that run on the host."""
        return [int(pid) for pid in _ip("netns", "pids", self.namespace).split()]

    def unplug(self) -> None:
        """Take the link down: the others neither reach the host nor are told so."""
        _ip("-n", self.namespace, "link", "set", "eth0", "down")

    def plug(self) -> None:
        """Take the link up again."""
        _ip("-n", self.namespace, "link", "set", "eth0", "up")

    def kill(self) -> None:
        """Kill every process on the host at once, as a power failure does."""
        for _ in range(100):
            there = self.processes()
            if not there:
                for process in self._started:
                    process.wait()
                return
            for pid in there:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        raise AssertionError(f"{self.name} still has the processes {self.processes()}")


@contextmanager
def network(count: int) -> Iterator[list[Host]]:
    """``count`` hosts named node1, node2, ... that reach each other; removed at the end."""
    drawn = uuid.uuid4()
    tag = f"rk{drawn.hex[:6]}"
    switch = f"{tag}s"
    # Ray looks for its processes on the whole machine by their address.
    subnet = f"10.77.{drawn.bytes[-1]}"
    hosts = [
        Host(name=f"node{n}", address=f"{subnet}.{n}", namespace=f"{tag}n{n}")
        for n in range(1, count + 1)
    ]
    names = "127.0.0.1 localhost\n" + "".join(f"{one.address} {one.name}\n" for one in hosts)
    folders = [Path("/etc/netns", one.namespace) for one in hosts]
    try:
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for number, (host, folder) in enumerate(zip(hosts, folders, strict=True), 1):
            _ip("netns", "add", host.namespace)
            port = f"port{number}"
            ends = ["eth0", "type", "veth", "peer", "name", port, "netns", switch]
            _ip("-n", host.namespace, "link", "add", *ends)
            _ip("-n", switch, "link", "set", port, "master", "bridge", "up")
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", host.namespace, "link", "set", "lo", "up")
            _ip("-n", host.namespace, "link", "set", "eth0", "up")
            folder.mkdir(parents=True)
            (folder / "hosts").write_text(names)
        yield hosts
    finally:
        for host, folder in zip(hosts, folders, strict=True):
            if Path("/run/netns", host.namespace).exists():
                host.kill()
                _ip("netns", "delete", host.namespace)
            (folder / "hosts").unlink(missing_ok=True)
            if folder.exists():
                folder.rmdir()
        if Path("/run/netns", switch).exists():
            _ip("netns", "delete", switch)


def wait_until(true: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait for a condition; fail with ``what`` was waited for."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
        time.sleep(0.05)

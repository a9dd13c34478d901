"""The hosts of the tests are apart: what they stand for must be true."""

from __future__ import annotations

import socket
import sys

import pytest

from hosts import Host, network, wait_until

_ANSWER = """
import socket
with socket.create_server(("", 2345)) as server:
    while True:
        connection, _ = server.accept()
        connection.sendall(socket.gethostname().encode())
        connection.close()
"""
_ASK = """
import socket, sys
print(socket.gethostname(), socket.create_connection((sys.argv[1], 2345), 2).recv(100).decode())
"""


def _asked(host: Host, name: str) -> str:
    return host.run([sys.executable, "-c", _ASK, name]).stdout


@pytest.mark.slow
def test_hosts_have_names_and_addresses_and_can_be_cut_off() -> None:
    with network(3) as (first, second, third):
        server = first.start([sys.executable, "-c", _ANSWER])
        wait_until(lambda: _asked(second, "node1") == "node2 node1\n", "an answer")
        assert _asked(third, first.address) == "node3 node1\n"
        first.unplug()
        assert _asked(second, "node1") == ""
        assert server.poll() is None
        first.plug()
        wait_until(lambda: _asked(second, "node1") == "node2 node1\n", "an answer again")
        first.kill()
        assert server.wait(timeout=10) != 0
        assert _asked(second, "node1") == ""
    assert socket.gethostname() != "node1"

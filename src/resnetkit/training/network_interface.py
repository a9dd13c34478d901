"""The network interface between the machines of a distributed run."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

_VARIABLE = "GLOO_SOCKET_IFNAME"
#: ioctl(2) that reads the address of an interface, see netdevice(7).
_SIOCGIFADDR = 0x8915


def choose_interface(master: str, exchange: Callable[[str], Sequence[str]]) -> None:
    """Set ``GLOO_SOCKET_IFNAME`` to the interface that leads to the other machines.

    gloo listens on the address of the machine's own name, which Debian's /etc/hosts defines as
    127.0.1.1: no other machine reaches that. ``master`` is the machine of rank 0; ``exchange``
    gives the texts of all processes. Nothing changes if the variable is set, or if no interface
    is found.
    """
    address = _address_towards(master)
    others = exchange(address)
    if address.startswith("127."):
        # This is the master, which the processes of other machines have an address to reach.
        address = next((_address_towards(one) for one in others if not _is_local(one)), address)
    name = None if _is_local(address) else _interface_of(address)
    if name is not None:
        os.environ.setdefault(_VARIABLE, name)


def _is_local(address: str) -> bool:
    return address == "" or address.startswith("127.")


def _address_towards(machine: str) -> str:
    """This machine's IPv4 address on the way to another one; empty if there is none."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        # Sends nothing; only the route is looked up.
        found.connect((machine, 9))
        return str(found.getsockname()[0])
    return ""


def _interface_of(address: str) -> str | None:
    """The interface with an IPv4 address, on Linux."""
    if sys.platform != "linux":
        return None
    from fcntl import ioctl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has none
                answer = ioctl(asked, _SIOCGIFADDR, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return None

"""Joins and leaves the process group of torchrun."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Thread
from typing import TYPE_CHECKING
from uuid import uuid4

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from resnetkit.errors import InputError
from resnetkit.training.callbacks import NETWORK_TIMEOUT
from resnetkit.training.distributed import ALONE, Processes
from resnetkit.training.network_interface import choose_interface
from resnetkit.training.signals import Terminated

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

#: Timeout in seconds for all processes to join, and for reading and checking the images.
PATIENCE = 600.0
#: Seconds that the end of a process is told to the others.
_LAST_WORDS = 10.0
_ENDED = "ended"
#: Other launchers, and the variable with the number of tasks that one has started.
_LAUNCHERS = {
    "srun": "SLURM_STEP_NUM_TASKS",
    "mpirun": "OMPI_COMM_WORLD_SIZE",
    "mpiexec": "PMI_SIZE",
}
_LOST = (
    "another process of this run has died, or the network to it has failed; written files are "
    "intact: torchrun continues by itself if it may restart processes, else resume the run in its "
    "folder"
)


@contextmanager
def joined(network_timeout: float = NETWORK_TIMEOUT) -> Iterator[Processes]:
    """The processes of this launch of torchrun; ``ALONE`` without torchrun.

    They wait for each other up to ``network_timeout`` seconds, before training at least
    ``PATIENCE``. If one fails, it raises its error, and all others end silently, with
    ``SystemExit`` of the same code; after a signal, only rank 0 raises ``KeyboardInterrupt``.
    Raises ``ValueError`` if another process has died, and if another launcher than torchrun has
    started several.
    """
    if not dist.is_torchelastic_launched():
        if (world := os.environ.get("WORLD_SIZE") or "1") != "1":
            raise InputError(
                f"WORLD_SIZE is {world}, and torchrun has not started this process; use torchrun, "
                "or unset WORLD_SIZE to train with one process"
            )
        yield ALONE
        return
    # torchrun owns the store, so it remains for restarted processes; else rank 0 does.
    owned = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "False" and os.environ["RANK"] == "0"
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        limit = timedelta(seconds=network_timeout)
        store = PrefixStore(
            "resnetkit",
            TCPStore(host, port, is_master=owned, timeout=limit, wait_for_workers=False),
        )
    except dist.DistError:
        raise InputError(f"cannot reach torchrun at {host}:{port}; is it running?") from None
    place = Processes(
        rank=int(os.environ["RANK"]),
        world=int(os.environ["WORLD_SIZE"]),
        local=int(os.environ["LOCAL_WORLD_SIZE"]),
        store=store,
        # torchrun's default without a name.
        launch="" if (name := os.environ["TORCHELASTIC_RUN_ID"]) == "none" else name,
    )
    if torch.cuda.is_available():
        # `cuda` is now this process's own GPU.
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    if place.alone:
        yield place
        return
    launch = PrefixStore(_meet(store, place), store)
    try:
        _connect(launch, place, max(PATIENCE, network_timeout))
        yield place
        place.wait()
    except BaseException as error:
        _end(error, place, launch)
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def unconnected_tasks() -> str | None:
    """A warning if another launcher has started several tasks, and torchrun has not connected them.

    Each is then a run of its own.
    """
    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1":
        return None
    for launcher, name in _LAUNCHERS.items():
        if (count := os.environ.get(name) or "1") != "1":
            return (
                f"{launcher} has started {count} tasks, and this run has only one of them; to "
                "train together they need torchrun, see docs/cluster.md"
            )
    return None


def _connect(store: Store, place: Processes, seconds: float) -> None:
    try:
        if place.local < place.world:
            choose_interface(os.environ["MASTER_ADDR"], lambda text: _exchanged(store, place, text))
        dist.init_process_group(
            "gloo",
            store=store,
            rank=place.rank,
            world_size=place.world,
            timeout=timedelta(seconds=seconds),
        )
    except RuntimeError as error:
        raise InputError(
            f"the processes cannot connect ({error}); one may have died, or "
            "GLOO_SOCKET_IFNAME must name the network between the machines"
        ) from None


def _exchanged(store: Store, place: Processes, text: str) -> list[str]:
    """The texts of all processes, before they are connected."""
    store.set(f"text/{place.rank}", text)
    return [store.get(f"text/{rank}").decode() for rank in range(place.world)]


def _meet(store: Store, place: Processes) -> str:
    """A name for this start that is unknown to processes of earlier ones.

    torchrun's store keeps their entries, and its restart count may differ between machines. So
    rank 0 generates a name, all others sign it, and it is valid once rank 0 confirms the
    signatures.
    """
    end, mine = time.monotonic() + PATIENCE, uuid4().hex
    if place.leads:
        store.set("meeting", mine)
        signed = {"0": mine}
        for rank in range(1, place.world):
            _until(store, f"{mine}/{rank}", end, rank)
            signed[str(rank)] = store.get(f"{mine}/{rank}").decode()
        store.set(f"{mine}/all", ",".join(signed.values()))
        return mine
    while True:
        _until(store, "meeting", end, 0)
        name = str(store.get("meeting").decode())
        store.set(f"{name}/{place.rank}", mine)
        while time.monotonic() < end and store.get("meeting").decode() == name:
            # Without this signature the name is of processes that have ended.
            if store.check([f"{name}/all"]) and mine in store.get(f"{name}/all").decode():
                return name
            time.sleep(0.01)
        if time.monotonic() >= end:
            raise _absent(0)


def _until(store: Store, key: str, end: float, rank: int) -> None:
    while not store.check([key]):
        if time.monotonic() >= end:
            raise _absent(rank)
        time.sleep(0.01)


def _absent(rank: int) -> InputError:
    return InputError(
        f"process {rank} did not join within {PATIENCE:.0f} seconds; check its machine"
    )


def _end(error: BaseException, place: Processes, store: Store) -> None:
    """Raise this process's final exception; return if that is ``error`` itself."""
    stopped = isinstance(error, KeyboardInterrupt)
    code = 2
    if stopped:
        code = 143 if isinstance(error, Terminated) else 130
    lost = is_lost(error)
    known = _first(store, place, f"{'stop' if stopped else 'error'} {code}")
    if known is None:
        if lost:
            raise InputError(_LOST) from None
        if stopped and not place.leads:
            raise SystemExit(code) from None
        if isinstance(error, InputError) and place.machines > 1 and not place.leads:
            # It may be about this machine only.
            raise error.behind(f"process {place.rank} on {socket.gethostname()}: ") from None
        return
    kind, code = known.split()[0], int(known.split()[1])
    if kind == "stop" and place.leads:
        raise (Terminated() if code == 143 else KeyboardInterrupt()) from None
    raise SystemExit(code) from None


def _first(store: Store, place: Processes, end: str) -> str | None:
    """How the first process ended; None if this is the first."""
    mine, found = f"{end} {place.rank}", list[str]()

    def ask() -> None:
        with suppress(RuntimeError):
            found.append(store.compare_set(_ENDED, "", mine).decode())

    # If the store's machine is cut off, it answers when TCP gives up, after a quarter of an hour.
    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_LAST_WORDS)
    if found:
        return None if found[0] == mine else found[0]
    # torchrun itself has exited, or is cut off.
    return None if place.leads else end


def is_lost(error: BaseException) -> bool:
    """Whether an error means that another process has died."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("gloo" in text or "NCCL" in text)

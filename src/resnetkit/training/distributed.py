"""The processes of a distributed run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from resnetkit.errors import InputError
from resnetkit.files import write_text
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.run_folder import LAUNCH, RECIPE

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

T = TypeVar("T")
# Older torch has it under a private name.
set_timeout: Any = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout
_STARTED = "started"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Processes:
    """Process ``rank`` of ``world``, on a machine with ``local`` of them.

    All processes must call the methods in the same order; a single one sends nothing. Only rank 0
    writes and prints. ``store`` is torchrun's, which outlives restarted processes; ``launch`` is
    the launch's name (--rdzv-id).
    Created by ``joined``.
    """

    rank: int = 0
    world: int = 1
    local: int = 1
    store: Store | None = None
    launch: str = ""

    @property
    def leads(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether this is the only process."""
        return self.world == 1

    @property
    def machines(self) -> int:
        """The number of machines."""
        return -(-self.world // self.local)

    def check(self, recipe: Recipe) -> None:
        """Raise ``ValueError`` if the recipe's batch or device cannot be divided."""
        if self.alone:
            return
        batch, world = recipe.batch_size, self.world
        if batch % world or batch < 2 * world:
            below = max(2, batch // world) * world
            raise InputError(
                f"batch_size is {batch} for {world} processes; it must be a multiple of {world}, "
                f"with at least 2 images per process, e.g. {below} or {below + world}",
                field="batch_size",
            )
        if recipe.optimizer.grad_accum_steps > batch // world // 2:
            raise InputError(
                f"grad_accum_steps is {recipe.optimizer.grad_accum_steps} for {batch // world} "
                "images, a process's share of the batch; each part requires at least two images",
                field="grad_accum_steps",
            )
        device = torch.device(recipe.runtime.device)
        if device.type == "cuda" and device.index is not None:
            raise InputError(
                f"device {recipe.runtime.device} is one GPU for {world} processes; give cuda, so "
                "that each process uses its own",
                field="device",
            )
        if device.type == "cuda" and self.local > torch.cuda.device_count():
            raise InputError(
                f"torchrun started {self.local} processes and this machine has "
                f"{torch.cuda.device_count()} GPUs; start at most as many"
            )

    def shares(self, count: int) -> list[int]:
        """The number of ``count`` items for each process; those with items differ by at most one.

        Of several processes none gets a single item, as norms cannot be trained on one image; so
        the last ones may get none of a short batch.
        """
        busy = max(1, min(self.world, count // 2))
        each, more = divmod(count, busy)
        return [each + (rank < more) for rank in range(busy)] + [0] * (self.world - busy)

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's ``shares``, in order: the first for rank 0, the next for rank 1, ..."""
        counts = self.shares(len(items))
        first = sum(counts[: self.rank])
        return items[first : first + counts[self.rank]]

    def shared(self, make: Callable[[], T]) -> T:
        """Call ``make`` in rank 0 only, and return its result in all."""
        if self.alone:
            return make()
        # Unpickles only data from processes of this run.
        held: list[Any] = [make() if self.leads else None]
        dist.broadcast_object_list(held, src=0)
        value: T = held[0]
        return value

    def gathered(self, value: T) -> list[T]:
        """The ``value`` of every process, in rank order."""
        if self.alone:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def numbers(self, *values: float) -> list[tuple[float, ...]]:
        """The numbers of every process, in rank order; exact, as float64."""
        if self.alone:
            return [values]
        return [tuple(one.tolist()) for one in self.tensors(torch.tensor(values).double())]

    def tensors(self, value: Tensor) -> list[Tensor]:
        """The tensor of every process, of one shape and type, on the CPU, in rank order."""
        value = value.detach().cpu().contiguous()
        if self.alone:
            return [value]
        found = [torch.empty_like(value) for _ in range(self.world)]
        dist.all_gather(found, value)
        return found

    def same(self, value: object) -> bool:
        """Whether all processes have this value, of plain types."""
        if self.alone:
            return True
        digest = hashlib.sha256(repr(value).encode()).hexdigest()
        return len(set(self.gathered(digest))) == 1

    def wait(self) -> None:
        """Wait for all processes."""
        if not self.alone:
            dist.barrier()

    def limit(self, seconds: float) -> None:
        """Wait for other processes up to ``seconds`` from now on."""
        if not self.alone:
            set_timeout(timedelta(seconds=seconds))

    def remember_start(self, folder: Path) -> None:
        """Record that this launch of torchrun started the run in ``folder``."""
        if self.store is not None:
            self.store.set(_STARTED, str(folder.resolve()))
            if self.launch:
                write_text(folder / LAUNCH, self.launch)

    def remembers_start(self, folder: Path, *, overwrite: bool) -> bool:
        """Whether this launch started the run in ``folder``.

        The store is lost with its machine; so a launch with its own name is also recognised by
        that, unless an earlier one of this name is overwritten.
        """
        if self.store is None or not (folder / RECIPE).exists():
            return False
        if self.store.check([_STARTED]):
            return bool(self.store.get(_STARTED).decode() == str(folder.resolve()))
        path = folder / LAUNCH
        named = bool(self.launch) and not overwrite and path.exists()
        return named and path.read_text(encoding="utf-8") == self.launch


ALONE = Processes()

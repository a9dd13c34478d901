"""Data-parallel training steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from inspect import signature
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from resnetkit.training.data.data_loader import Batch
from resnetkit.training.distributed import Processes
from resnetkit.training.fsdp import shard
from resnetkit.training.step.compile import Forward
from resnetkit.training.step.loss import Criterion
from resnetkit.training.step.model_setup import Place
from resnetkit.training.step.optimization_step import Backward, Score, answered
from resnetkit.training.step.sync_batch_norm import synchronise

#: The weight of a batch's mean loss, from its targets.
Weigh = Callable[[Tensor], float]


class DataParallel:
    """Distributes steps over processes; with a single one it changes nothing.

    ``module`` is what is trained: the network, or ``DistributedDataParallel`` of it. The gradient
    is that of the mean loss over the whole batch, however it is divided. Norms see the images of
    their process, and their running statistics are averaged over all processes after each step;
    with ``sync_bn`` they see the whole batch. With ``fsdp`` the processes also divide the
    parameters, and those of ``average``.
    """

    def __init__(
        self,
        processes: Processes,
        network: nn.Module,
        average: AveragedModel | None = None,
        *,
        sync_bn: bool,
        fsdp: bool = False,
        weigh: Weigh,
        place: Place,
    ) -> None:
        self.processes, self.network = processes, network
        self._weigh, self._place, self._sync = weigh, place, sync_bn
        self.module: nn.Module = network
        self._counts = [0]
        if processes.alone:
            return
        self._group = _group_for(next(network.parameters()).device)
        if sync_bn:
            synchronise(network, self._group)
        if fsdp:
            shard(network, self._group)
            if average is not None:
                shard(average.module, self._group)
            return
        # Renamed in torch 2.14. Buffers are already equal, see `settle`.
        renamed = "forward_sync_buffers" in signature(DistributedDataParallel).parameters
        unsent: Any = {"forward_sync_buffers" if renamed else "broadcast_buffers": False}
        self.module = DistributedDataParallel(network, process_group=self._group, **unsent)

    def count(self, mine: int) -> int:
        """The number of images in the whole batch; ``mine`` are here."""
        self._counts = [int(one) for (one,) in self.processes.numbers(mine)]
        return sum(self._counts)

    def usable(self, batch: Batch) -> Batch:
        """``batch``, or an empty one if unreadable images left just one here."""
        if self.processes.alone or self._sync or len(batch) != 1:
            return batch
        return replace(batch, inputs=batch.inputs[:0], labels=batch.labels[:0], examples=())

    def before(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor] | None:
        """The image and label before this process's first in the batch, as in a ring.

        None for a single process.
        """
        if self.processes.alone:
            return None
        with_last = len(inputs) > 0
        image = inputs[-1:] if with_last else inputs.new_zeros(1, *inputs.shape[1:])
        label = labels[-1:] if with_last else labels.new_zeros(1)
        images, names = self.processes.tensors(image), self.processes.tensors(label)
        ranks = [rank for rank, count in enumerate(self._counts) if count]
        earlier = [rank for rank in ranks if rank < self.processes.rank]
        at = (earlier or ranks)[-1]
        return images[at].to(inputs.device), names[at].to(labels.device)

    @property
    def backward(self) -> Backward | None:
        """The backward pass over several processes."""
        return None if self.processes.alone else self._backward

    def _backward(
        self,
        forward: Forward,
        inputs: Tensor,
        targets: Tensor,
        criterion: Criterion,
        pieces: int,
        bf16: bool,
    ) -> tuple[Tensor, Tensor]:
        """Add the gradient of the whole batch's loss, piece by piece; returns the local logits and
        that loss, the same in all processes."""
        whole = sum(one for (one,) in self.processes.numbers(self._weigh(targets)))
        found, value = [], 0.0
        parts = self._pieces(pieces)
        split = (inputs.tensor_split(len(parts)), targets.tensor_split(len(parts)))
        for number, (images, truth) in enumerate(zip(*split, strict=True)):
            self._place.total, self._place.first = parts[number]
            # The gradient is sent with the last piece; a sharded one, which would be whole until
            # then, with each.
            last = number == len(parts) - 1
            with nullcontext() if last else self._unsent():
                logits = answered(forward, images, bf16)
                if len(images):
                    loss = criterion(logits, truth) * (self._weigh(truth) / whole)
                else:
                    # So that this process takes part in the communication of backward.
                    loss = logits.sum() * 0
                value += float(loss.detach())
                # torch averages over the processes; this is a sum.
                (loss * self.processes.world).backward()  # type: ignore[no-untyped-call]
            found.append(logits.detach())
        value = sum(one for (one,) in self.processes.numbers(value))
        return torch.cat(found), torch.tensor(value, dtype=torch.float32, device=inputs.device)

    def _unsent(self) -> AbstractContextManager[None]:
        if isinstance(self.module, DistributedDataParallel):
            return self.module.no_sync()
        return nullcontext()

    def _pieces(self, pieces: int) -> list[tuple[int, int]]:
        """For each piece, the number of images in all and in lower ranks."""
        least = min(count for count in self._counts if count)
        count = max(1, min(pieces, least // 2))
        found = []
        for number in range(count):
            # As in Tensor.tensor_split.
            sizes = [n // count + (number < n % count) for n in self._counts]
            found.append((sum(sizes), sum(sizes[: self.processes.rank])))
        return found

    def settle(self) -> None:
        """Average running statistics over all processes with images, after a step.

        At every step, so that results do not depend on when checkpoints are saved.
        """
        if self.processes.alone or self._sync:
            return
        buffers = list(_running(self.network))
        if not buffers:
            return
        busy = self._counts[self.processes.rank] > 0
        flat = torch.cat([buffer.flatten() for buffer in buffers])
        flat = flat if busy else torch.zeros_like(flat)
        dist.all_reduce(flat, group=self._group)
        flat /= sum(count > 0 for count in self._counts)
        ends = list(accumulate(buffer.numel() for buffer in buffers))[:-1]
        for buffer, mean in zip(buffers, flat.tensor_split(ends), strict=True):
            buffer.copy_(mean)

    def total(self, score: Score) -> Score:
        """The sums over all processes; counts are exact, losses are added in rank order."""
        if self.processes.alone:
            return score
        found = Score()
        for total, right, images in self.processes.numbers(score.total, score.right, score.images):
            found.join(Score(total=total, right=int(right), images=int(images)))
        return found


def _running(module: nn.Module) -> Iterator[Tensor]:
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d) and child.training:
            assert child.running_mean is not None
            assert child.running_var is not None
            yield from (child.running_mean, child.running_var)


def _group_for(device: torch.device) -> dist.ProcessGroup | None:
    """CPUs use the default group, GPUs NCCL."""
    if device.type != "cuda":
        return None
    group = dist.new_group(backend="nccl")
    assert isinstance(group, dist.ProcessGroup)
    return group

"""One optimization step, and validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnetkit.errors import InputError
from resnetkit.training.data.data_loader import Batch
from resnetkit.training.fsdp import is_sharded, whole
from resnetkit.training.step.compile import Forward
from resnetkit.training.step.loss import Criterion

#: From forward, inputs, targets, criterion, pieces and whether in bf16 to logits and the loss;
#: adds gradients.
Backward = Callable[[Forward, Tensor, Tensor, Criterion, int, bool], tuple[Tensor, Tensor]]


class DivergedError(InputError):
    """The loss is not finite."""

    def __init__(self, text: str) -> None:
        super().__init__(text, field=("lr", "skip_nan"))


class NotFiniteError(ArithmeticError):
    """A step was skipped, as its loss or gradient is not finite; weights are unchanged."""


@dataclass(slots=True, kw_only=True)
class Score:
    """Sums over images: cross-entropy in nats, without label smoothing; correct answers."""

    total: float = 0.0
    right: int = 0
    images: int = 0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits ``(N, classes)``, labels ``(N,)``."""
        lost = F.cross_entropy(logits.float(), labels, reduction="sum")
        right = (logits.argmax(-1) == labels).sum()
        # Both at once, to synchronize with a GPU only once; float64 has both exactly.
        total, count = torch.stack([lost.double(), right.double()]).tolist()
        self.total += total
        self.right += int(count)
        self.images += len(labels)

    def join(self, other: Score) -> None:
        """Add another score."""
        self.total += other.total
        self.right += other.right
        self.images += other.images

    @property
    def loss(self) -> float:
        """The mean over the images."""
        return self.total / self.images

    @property
    def accuracy(self) -> float:
        """The share of correct answers, 0 to 1."""
        return self.right / self.images

    def to_dict(self) -> dict[str, Any]:
        """The sums as JSON types, without rounding."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Score:
        """The inverse of ``to_dict``."""
        return cls(**document)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """Options of a step.

    ``frozen`` modules stay in evaluation mode; gradients are clipped to the norm ``clip`` if above
    0; the batch is computed in ``pieces``, whose norms only see their own images. ``forward`` is
    the compiled module; ``bf16`` is the precision of convolutions and products, while loss and
    weights stay float32. ``backward`` adds gradients over several processes.
    """

    frozen: Sequence[nn.Module] = ()
    clip: float = 0.0
    pieces: int = 1
    forward: Forward | None = None
    bf16: bool = False
    backward: Backward | None = None


def train_step(
    module: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    optimizer: torch.optim.Optimizer,
    criterion: Criterion,
    options: StepOptions,
) -> Tensor:
    """Make one step and return the logits ``(N, num_classes)`` before it.

    Raises ``NotFiniteError`` if the loss or the norm of the gradient is not finite; then weights
    and running statistics are unchanged.
    """
    module.train()
    for child in options.frozen:
        child.eval()
    # A compiled module has no truth value.
    forward = module if options.forward is None else options.forward
    buffers = [buffer.clone() for buffer in module.buffers()]
    optimizer.zero_grad(set_to_none=True)
    try:
        add = options.backward or _backward
        logits, loss = add(forward, inputs, targets, criterion, options.pieces, options.bf16)
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        norm = whole(torch.nn.utils.get_total_norm(gradients))
        # Both at once, to synchronize with a GPU only once.
        lost, length = torch.stack([loss, norm]).tolist()
        if not math.isfinite(lost):
            raise NotFiniteError(f"the loss became {lost}")
        if not math.isfinite(length):
            raise NotFiniteError(f"the gradient became {length}")
    except NotFiniteError:
        optimizer.zero_grad(set_to_none=True)
        for buffer, before in zip(module.buffers(), buffers, strict=True):
            buffer.copy_(before)
        raise
    if options.clip:
        torch.nn.utils.clip_grads_with_norm_(module.parameters(), options.clip, norm)
    optimizer.step()
    return logits


def _backward(
    forward: Forward,
    inputs: Tensor,
    targets: Tensor,
    criterion: Criterion,
    pieces: int,
    bf16: bool,
) -> tuple[Tensor, Tensor]:
    """Add the gradient of a batch's loss piece by piece; returns logits and loss."""
    found, lost = [], []
    # At least two images per piece, as batch norms cannot learn from one.
    count = max(1, min(pieces, len(inputs) // 2))
    parts = (inputs.tensor_split(count), targets.tensor_split(count))
    for images, truth in zip(*parts, strict=True):
        logits = answered(forward, images, bf16)
        loss = criterion(logits, truth) * (len(images) / len(inputs))
        loss.backward()  # type: ignore[no-untyped-call]
        found.append(logits.detach())
        lost.append(loss.detach())
    return torch.cat(found), torch.stack(lost).sum()


def answered(forward: Forward, images: Tensor, bf16: bool) -> Tensor:
    """The float32 logits; ``bf16`` is the precision of convolutions and products."""
    lower = torch.autocast(images.device.type, torch.bfloat16) if bf16 else nullcontext()
    with lower:
        logits = forward(images)
    return logits.float()


@torch.no_grad()  # a sharded module cannot be trained after inference mode
def measure(
    module: nn.Module,
    batches: Iterable[Batch],
    *,
    device: str,
    between: Callable[[], None] = lambda: None,
    total: Callable[[Score], Score] = lambda score: score,
) -> Score:
    """The score in evaluation mode; ``between`` is called after each batch, ``total`` at the end.

    Raises ``DivergedError`` if the loss is not finite.
    """
    module.eval()
    together = any(map(is_sharded, module.modules()))
    score = Score()
    for batch in batches:
        # All processes compute a sharded module together.
        if len(batch) or together:
            # As a rule they already are on the device.
            score.add(module(placed(batch.inputs, device)), batch.labels.to(device))
        between()
    score = total(score)
    if not score.images:
        raise DivergedError("none of the validation images can be read")
    if not math.isfinite(score.loss):
        raise DivergedError(f"the validation loss became {score.loss}")
    return score


def placed(inputs: Tensor, device: str) -> Tensor:
    """Images on the device, channels last, the fastest layout for convolutions."""
    return inputs.to(device, memory_format=torch.channels_last)


def cuda_of(device: str) -> list[torch.device]:
    """The GPU of that name, which has its own generator; none for CPUs."""
    place = torch.device(device)
    return [place] if place.type == "cuda" else []

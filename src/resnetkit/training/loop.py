"""One epoch: train on all batches, or measure on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnetkit.errors import InputError
from resnetkit.training.feed import Batch
from resnetkit.training.optimizer import set_rate


class DivergedError(InputError):
    """The loss is no number any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Mean cross-entropy in nats, without label smoothing, and the share of right answers."""

    loss: float
    accuracy: float
    images: int


class _Sum:
    """Adds up the score of the batches."""

    def __init__(self) -> None:
        self.loss, self.right, self.images = 0.0, 0, 0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        self.loss += float(F.cross_entropy(logits.float(), labels, reduction="sum"))
        self.right += int((logits.argmax(-1) == labels).sum())
        self.images += len(labels)

    def score(self) -> Score:
        return Score(
            loss=self.loss / self.images, accuracy=self.right / self.images, images=self.images
        )


def train_epoch(
    module: nn.Module,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    *,
    rates: Iterator[float],
    label_smoothing: float,
    device: str,
    done: Callable[[int], None],
) -> Score:
    """Train on every batch once, at the rate that ``rates`` gives for it.

    ``done`` is told the number of images of each batch. The score is that of the batches as they
    were trained on, varied and before the step. Raises ``DivergedError`` where the loss is not
    finite.
    """
    module.train()
    total = _Sum()
    for inputs, labels in batches:
        images, truth = _placed(inputs, device), labels.to(device)
        set_rate(optimizer, next(rates))
        logits = module(images)
        loss = F.cross_entropy(logits, truth, label_smoothing=label_smoothing)
        if not math.isfinite(loss.item()):
            raise DivergedError(f"the loss became {loss.item()}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total.add(logits.detach(), truth)
        done(len(labels))
    return total.score()


@torch.inference_mode()
def measure(module: nn.Module, batches: Iterable[Batch], *, device: str) -> Score:
    """The score in evaluation mode. Raises ``DivergedError`` where the loss is not finite."""
    module.eval()
    total = _Sum()
    for inputs, labels in batches:
        total.add(module(_placed(inputs, device)), labels.to(device))
    score = total.score()
    if not math.isfinite(score.loss):
        raise DivergedError(f"the validation loss became {score.loss}")
    return score


def _placed(inputs: Tensor, device: str) -> Tensor:
    return inputs.to(device, memory_format=torch.channels_last)

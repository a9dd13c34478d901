"""Random numbers that depend only on the seed and the place they are drawn for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

#: What torch and torchvision's transforms draw with; each takes a generator.
_DRAWING: frozenset[Callable[..., Any]] = frozenset(
    [
        torch.bernoulli,
        torch.multinomial,
        torch.normal,
        torch.rand,
        torch.randint,
        torch.randn,
        torch.randperm,
        torch.Tensor.bernoulli_,
        torch.Tensor.exponential_,
        torch.Tensor.normal_,
        torch.Tensor.random_,
        torch.Tensor.uniform_,
        torch._sample_dirichlet,
    ]
)


def mixed(*numbers: int) -> int:
    """One seed of several numbers; neighbouring ones have nothing in common."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def generator_of(*numbers: int) -> torch.Generator:
    """torch's generator of random numbers for the seed ``mixed(*numbers)``."""
    return torch.Generator().manual_seed(mixed(*numbers))


class Drawn(TorchFunctionMode):
    """Within it, whatever this thread draws by torch depends on ``numbers`` alone.

    So a transform of torchvision makes the same of an image in whichever thread and order, and
    torch's own generator, which all threads share, stays as it is.
    """

    def __init__(self, *numbers: int) -> None:
        super().__init__()
        self._generator = generator_of(*numbers)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in _DRAWING and given.get("generator") is None:
            given["generator"] = self._generator
        return func(*args, **given)

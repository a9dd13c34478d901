"""Random numbers that depend only on the seed and what they are drawn for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

#: Functions that torch and torchvision's transforms draw with; all accept a generator.
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
    """A seed from several numbers; adjacent ones are independent."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def generator_of(*numbers: int) -> torch.Generator:
    """A torch generator with the seed ``mixed(*numbers)``."""
    return torch.Generator().manual_seed(mixed(*numbers))


class Drawn(TorchFunctionMode):
    """Within it, torch's random numbers in this thread depend on ``numbers`` alone.

    So torchvision's transforms are reproducible in any thread and order, and torch's global
    generator, which all threads share, is unchanged.
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

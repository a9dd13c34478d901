"""The hours of cores or GPUs that a job takes, and their price."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from resnetkit.errors import InputError

if TYPE_CHECKING:  # training imports torch, which prediction does not need
    from resnetkit.training.recipe.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """``count`` cores or GPUs at a time, and the ``price`` of one for an hour, if it is known."""

    unit: Literal["core", "GPU"]
    count: int
    price: float | None = None

    def hours(self, seconds: float) -> float:
        """The hours of all cores or GPUs."""
        return self.count * seconds / 3600

    def price_of(self, seconds: float) -> float:
        """The price of these hours; NaN if that of one is not known."""
        return math.nan if self.price is None else self.hours(seconds) * self.price

    def text(self, seconds: float) -> str:
        """``0.0556 core hours for 0.05``."""
        text = f"{self.hours(seconds):.3g} {self.unit} hours"
        return text if self.price is None else f"{text} for {self.price_of(seconds):.3g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The prices of a core and of a GPU for an hour, in any currency.

    Raises ``ValueError`` for a price that is not a number from 0.
    """

    core_price: float | None = None
    gpu_price: float | None = None

    def __post_init__(self) -> None:
        for name in ("core_price", "gpu_price"):
            price = getattr(self, name)
            if price is not None and not 0 <= price < math.inf:
                raise InputError(f"{name} is {price:g}; it must be a number from 0", field=name)

    def check(self, device: str) -> None:
        """Raise ``ValueError`` if a price is given and that of ``device`` is not."""
        used, other = "core_price", "gpu_price"
        if not _is_cpu(device):
            used, other = other, used
        if getattr(self, used) is None and getattr(self, other) is not None:
            raise InputError(
                f"the device is {device}, of which {other} is not the price; give {used}",
                field=(used, other),
            )

    def of_training(self, recipe: Recipe, processes: int) -> Cost:
        """The cost of ``processes`` that train: of a core per thread, or of a GPU each."""
        if not _is_cpu(recipe.runtime.device):
            return Cost(unit="GPU", count=processes, price=self.gpu_price)
        import torch

        threads = recipe.runtime.threads or torch.get_num_threads()
        return Cost(unit="core", count=processes * threads, price=self.core_price)


def _is_cpu(device: str) -> bool:
    return device.partition(":")[0] == "cpu"

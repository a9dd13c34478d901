"""Every choice of a training run, and how it is written down."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from resnetkit.architecture.network import Network
from resnetkit.architecture.walk import walk
from resnetkit.errors import InputError
from resnetkit.preprocess import Preprocess
from resnetkit.training.augment import Augment

_WHOLE = {"epochs": 1, "batch_size": 2, "seed": 0, "threads": 1}
_SHARES = {"momentum": (0, 1), "label_smoothing": (0, 1), "validation": (0, 1), "test": (0, 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training run: SGD with momentum, linear warm-up and a cosine to zero.

    ``data`` is a folder or ``digits``; ``validation`` and ``test`` are the shares held back of a
    folder that is not divided; ``lr`` is the peak, reached after ``warmup`` epochs; ``start`` names
    the weights that training starts from, None are new ones; ``threads`` None leaves the number of
    processor threads to torch.

    Raises ``ValueError`` for a value that is not allowed, and where the network cannot take the
    images that ``preprocess`` makes.
    """

    data: str
    network: Network
    preprocess: Preprocess
    augment: Augment
    epochs: int
    batch_size: int
    lr: float
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    warmup: float = 2.0
    validation: float = 0.15
    test: float = 0.15
    seed: int = 0
    device: str = "cpu"
    threads: int | None = None
    start: str | None = None

    def __post_init__(self) -> None:
        for name, least in _WHOLE.items():
            value = getattr(self, name)
            if name == "threads" and value is None:
                continue
            if type(value) is not int or value < least:
                raise InputError(
                    f"{_flag(name)} is {value!r}; it takes a whole number from {least}"
                )
        for name, (low, high) in _SHARES.items():
            value = getattr(self, name)
            if not low <= value < high:
                raise InputError(
                    f"{_flag(name)} is {value:g}; it takes a number from {low}, below {high}"
                )
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise InputError(f"--lr is {self.lr:g}; it takes a number above 0")
        for name in ("weight_decay", "warmup"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{_flag(name)} is {value:g}; it takes a number from 0")
        if self.warmup > self.epochs:
            raise InputError(
                f"--warmup is {self.warmup:g} epochs of {self.epochs}; it takes at most all of them"
            )
        if self.validation == 0 or self.validation + self.test >= 1:
            raise InputError(
                f"--validation {self.validation:g} and --test {self.test:g}: some images have to "
                "choose the best epoch and some to train, so give numbers like 0.15"
            )
        self._check_network()

    def _check_network(self) -> None:
        if self.network.options.classes is None:
            raise InputError(f"{self.network.name} has no classes; give a network that has")
        shape = (self.preprocess.channel_count, self.preprocess.size, self.preprocess.size)
        problem = walk(self.network, shape).problem
        if problem is not None:
            raise InputError(f"{self.network.name} cannot be trained at this --size: {problem}")

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON types."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("network", "preprocess", "augment"):
            values[name] = values[name].to_dict()
        return values

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Recipe:
        """The recipe of ``to_dict``. Raises ``ValueError`` for what is none."""
        try:
            return cls(
                **{
                    **document,
                    "network": Network.from_dict(document["network"]),
                    "preprocess": Preprocess.from_dict(document["preprocess"]),
                    "augment": Augment(**document["augment"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"this is no recipe of a training run: {error}") from None

    def to_toml(self) -> str:
        """The recipe as TOML, tables last; ``from_toml`` gives an equal one back."""
        return "# A training run of resnetkit; every choice of it.\n" + _toml(self.to_dict())

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """The recipe of ``to_toml``. Raises ``ValueError`` for what is none."""
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"this is no recipe of a training run: {error}") from None
        return cls.from_dict(document)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _toml(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> str:
    """A table as TOML. None is left out, for TOML has none and every default of it is None."""
    lines = [f"[{'.'.join(path)}]"] if path else []
    lines += [
        f"{name} = {_toml_value(value)}"
        for name, value in table.items()
        if value is not None and not isinstance(value, Mapping)
    ]
    inner = [
        _toml(value, (*path, name)) for name, value in table.items() if isinstance(value, Mapping)
    ]
    return "\n".join(lines) + "\n" + "".join(f"\n{text}" for text in inner)


def _toml_value(value: str | bool | int | float | list[Any]) -> str:
    # JSON's strings, numbers, booleans and arrays are TOML's, but for DEL and a bare exponent.
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

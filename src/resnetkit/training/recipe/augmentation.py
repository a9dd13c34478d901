"""Augmentation settings (plain data)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from resnetkit.errors import InputError, check, mapping, shown

Policy = Literal["none", "randaugment", "trivialaugment"]


def _choice(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """Augmentations of a training image, in this order; flags are derived from the fields.

    ``crop``: Szegedy et al. 2014, arXiv:1409.4842, with sides up to 4:3. ``shortest``: the scale
    augmentation of Simonyan & Zisserman 2014, arXiv:1409.1556, as shares of the network's size.
    ``lighting``: Krizhevsky et al. 2012. ``policy``: Cubuk et al. 2019, arXiv:1909.13719, or Müller
    & Hutter 2021, arXiv:2103.10158, on torchvision's scale. ``erase``: Zhong et al. 2017,
    arXiv:1708.04896, with the mean colour.

    Raises ``ValueError`` for a value that is not allowed.
    """

    flip: bool = _choice(False, "mirror every second image left to right")
    crop: float = _choice(1.0, "minimum share of the area that a crop keeps; 1: no crop")
    shortest: tuple[float, ...] = _choice(
        (), "or: crops of images with a shorter side between these shares of the size; e.g. 1.1,2.1"
    )
    shift: int = _choice(0, "maximum shift in pixels, with replicated borders")
    policy: Policy = _choice("none", "random changes of colours and shapes")
    operations: int = _choice(2, "of randaugment")
    magnitude: int = _choice(9, "of randaugment, 0 to 30")
    lighting: float = _choice(0.0, "standard deviation of PCA colour noise")
    erase: float = _choice(0.0, "probability of erasing a rectangle")

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1 or self.shift < 0:
            raise InputError(
                f"augment crop is {self.crop!r} and shift {self.shift!r}; "
                "crop must be a share up to 1, shift an integer from 0"
            )
        if self.shortest and not (len(self.shortest) == 2 and self.shortest[0] >= 1):
            raise InputError(f"augment shortest is {self.shortest}; it must be two shares from 1")
        if self.shortest and (self.crop < 1 or self.shortest[0] > self.shortest[1]):
            raise InputError(
                f"augment shortest is {self.shortest} and crop {self.crop}; give one of them, "
                "with the lower share first"
            )
        if self.policy not in get_args(Policy):
            raise InputError(
                f"augment policy is {self.policy}; it must be one of {', '.join(get_args(Policy))}"
            )
        if self.operations < 1 or not 0 <= self.magnitude <= 30:
            raise InputError(
                f"augment operations is {self.operations} and magnitude {self.magnitude}; "
                "operations must be at least 1, magnitude from 0 to 30"
            )
        if not 0 <= self.erase <= 1 or not self.lighting >= 0:
            raise InputError(
                f"augment erase is {shown(self.erase)} and lighting {shown(self.lighting)}; erase "
                "must be a share from 0 to 1, lighting a number from 0"
            )

    @property
    def crops(self) -> bool:
        """Whether images are cropped from the whole picture, not from its centre."""
        return self.crop < 1 or bool(self.shortest)

    @property
    def largest(self) -> float:
        """The largest shorter side required of a picture, as a share of the size."""
        return max(2.0, *self.shortest) if self.shortest else 2.0

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Augment:
        """The inverse of ``to_dict``."""
        check({"augment": document}, {"augment": mapping()}, "the recipe's")
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in document.items()
        }
        return cls(**values)


#: The names of its fields.
NAMES = tuple(field.name for field in fields(Augment))

"""Image preprocessing as plain data: size, crop, channel order, mean, standard deviation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from resnetkit.errors import InputError, check, listed, mapping, number, one_of, optional, whole

Channels = Literal["RGB", "BGR", "L", "other"]
Resize = Literal["shortest", "squash"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]
Centre = Literal["even", "floor"]

#: Maximum input and resize side, in pixels: larger ones need gigabytes of memory.
_LARGEST, _LARGEST_RESIZED = 4096, 8192
_SMALLEST = 1e-6
_RULES = {
    "size": whole(1, _LARGEST),
    "resize": one_of(*get_args(Resize)),
    "resize_to": optional(whole(1, _LARGEST_RESIZED)),
    "interpolation": one_of(*get_args(Interpolation)),
    "centre": one_of(*get_args(Centre)),
    "channels": one_of(*get_args(Channels)),
    "divisor": number(_SMALLEST, 1e6),
    "mean": listed(number(-1e6, 1e6), 1000, 1),
    "std": listed(number(_SMALLEST, 1e6), 1000, 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """Preprocessing of an upright 8-bit image into the network's ``(C, size, size)`` input.

    1. ``shortest``: the shorter side becomes ``resize_to`` pixels, then the centre ``size`` x
    ``size`` is cropped; ``squash``: both sides become ``size``. Half of an odd margin is rounded to
    ``even`` (torchvision, timm) or down (``floor``, transformers).
    2. Pixels are divided by ``divisor`` (255 gives 0..1, 1 leaves 0..255), ``mean`` is subtracted
    and the result divided by ``std``, per channel in the order of ``channels``.

    ``other`` stands for non-image channels, one per value of ``mean``: such a network takes
    tensors, and images are rejected.

    Raises ``ValueError`` for inconsistent values.
    """

    size: int
    resize: Resize = "shortest"
    resize_to: int | None = None
    interpolation: Interpolation = "bilinear"
    centre: Centre = "even"
    channels: Channels = "RGB"
    divisor: float = 255.0
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if self.resize_to is None and self.resize == "shortest":
            object.__setattr__(self, "resize_to", self.size)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        check(values, _RULES, "preprocess")
        if self.resize == "squash" and self.resize_to is not None:
            raise InputError("preprocess resize_to requires resize shortest; leave it out")
        if self.resize_to is not None and self.resize_to < self.size:
            raise InputError(
                f"preprocess resize_to is {self.resize_to}, smaller than size {self.size}; "
                f"give at least {self.size}"
            )
        if not len(self.mean) == len(self.std) == self.channel_count:
            raise InputError(
                f"preprocess mean and std have {len(self.mean)} and {len(self.std)} values; "
                f"{self.channels} requires {self.channel_count} each"
            )

    @property
    def channel_count(self) -> int:
        """Channels of the network's input: 1 for ``L``, 3 for ``RGB`` and ``BGR``."""
        if self.channels == "other":
            return len(self.mean)
        return 1 if self.channels == "L" else 3

    def check_pictures(self) -> None:
        """Raise ``InputError`` if images cannot have these channels."""
        if self.channels == "other":
            raise InputError(
                f"the network takes {self.channel_count} channels, and images have 1 (L) or 3 "
                f"(RGB, BGR); pass module() tensors of (N, {self.channel_count}, H, W), normalised "
                f"as it was trained: by a preprocess of {self.channel_count} means"
            )

    @property
    def text(self) -> str:
        """One-line summary, e.g. ``RGB in 0..1, shorter side to 232, centre 224x224, ...``."""
        scale = {1.0: "0..255", 255.0: "0..1"}.get(self.divisor, f"0..255 by {self.divisor:g}")
        mean, std = (",".join(f"{number:.6g}" for number in part) for part in (self.mean, self.std))
        return (
            f"{self.channels} in {scale}, {self.resized}, {self.interpolation}, mean {mean}, "
            f"std {std}"
        )

    @property
    def resized(self) -> str:
        """Description of the resize step."""
        if self.resize == "squash":
            return f"squashed to {self.size}x{self.size}"
        return f"shorter side to {self.resize_to}, centre {self.size}x{self.size}"

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types; the inverse of ``from_dict``."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Preprocess:
        """Inverse of ``to_dict``. Raises ``ValueError`` for unknown names and invalid values."""
        check({"facts": document}, {"facts": mapping()}, "preprocess")
        unknown = set(document) - {field.name for field in fields(cls)}
        if unknown or "size" not in document:
            raise InputError(
                f"preprocessing has the fields {', '.join(f.name for f in fields(cls))}, "
                f"and this one has {', '.join(sorted(document)) or 'none'}"
            )
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in document.items()
        }
        return cls(**values)

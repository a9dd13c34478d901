"""Every choice that makes one ResNet differ from another, checked against each other.

An option is one field: its type, its default, what it means (``help``) and what it may be
(``choices``). The command line and the documentation are made from these fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Literal

from resnetkit.architecture.window import Rounding
from resnetkit.errors import InputError

BlockKind = Literal["basic", "bottleneck"]
StemKind = Literal["7x7", "deep", "3x3"]
StemPool = Literal["padded", "caffe", "none"]
ShortcutKind = Literal["projection", "avgpool+projection", "pad"]
HeadPool = Literal["global", "7x7"]

#: More blocks than any published ResNet has; beyond, a description is a mistake or an attack.
MAX_BLOCKS = 2000

_STEM_WIDTHS = {"7x7": (64,), "deep": (32, 32, 64), "3x3": (64,)}
#: Options whose natural value follows from the stem or the number of stages.
_FOLLOW = {
    "stem": ("stem_widths", "stem_padding", "stem_pool", "output_stride"),
    "depths": ("output_stride",),
    "stem_pool": ("output_stride",),
}


def _option(default: Any, text: str, *choices: str) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The choices of a network. ``None`` for a ``stem_`` option or ``output_stride`` asks for
    what is natural for the stem; it is replaced by that value.

    Raises ``ValueError`` for a value that is not allowed and for choices that contradict
    each other; the message says what was given and what is allowed.
    """

    depths: tuple[int, ...] = _option((3, 4, 6, 3), "blocks in each stage")
    block: BlockKind = _option(
        "bottleneck", "two 3x3 convolutions, or 1x1-3x3-1x1", "basic", "bottleneck"
    )
    widths: tuple[int, ...] = _option(
        (64, 128, 256, 512), "width of each stage; a bottleneck puts out four times as much"
    )
    groups: int = _option(1, "groups of a bottleneck's 3x3 convolution (ResNeXt's cardinality)")
    width_per_group: int = _option(64, "width of each group at stage width 64 (ResNeXt, wide)")
    stem: StemKind = _option(
        "7x7", "one 7x7, three 3x3, or one 3x3 without pooling", "7x7", "deep", "3x3"
    )
    stem_widths: tuple[int, ...] | None = _option(None, "one width, or three for a deep stem")
    stem_padding: int | None = _option(None, "padding of the stem's convolutions")
    stem_pool: StemPool | None = _option(
        None,
        "max-pool 3x3 stride 2 with padding 1, or without and rounded up (Caffe), or none",
        "padded",
        "caffe",
        "none",
    )
    stride_on: Literal["1x1", "3x3"] = _option(
        "3x3", "which convolution of a bottleneck has the stride (v1: 1x1)", "1x1", "3x3"
    )
    shortcut: ShortcutKind = _option(
        "projection",
        "shortcut where shapes change; pad is option A of the CIFAR networks",
        "projection",
        "avgpool+projection",
        "pad",
    )
    squeeze_excitation: int | None = _option(None, "reduction of squeeze-excitation, or none")
    squeeze_multiple: int = _option(8, "round the squeezed width to a multiple of this")
    conv_bias: bool = _option(False, "give the convolutions a bias (Keras)")
    norm_epsilon: float = _option(1e-5, "epsilon of the norms")
    norm_momentum: float = _option(0.1, "torch's momentum of the norms' running statistics")
    output_stride: int | None = _option(
        None, "stride of the last map to the input; below the natural one, stages are dilated"
    )
    dilation_entry: Literal["previous", "own"] = _option(
        "previous",
        "dilation in a dilated stage's first block: the previous stage's (torchvision, timm) "
        "or already its own (semseg, mmpretrain)",
        "previous",
        "own",
    )
    head_pool: HeadPool = _option(
        "global", "global average pool, or AvgPool(7, stride 1)", "global", "7x7"
    )
    classes: int | None = _option(1000, "classes of the fully connected layer, or none")
    input_channels: int = _option(3, "channels of the input")
    rounding: Rounding = _option(
        "floor", "round the sizes of strided layers down or up", "floor", "ceil"
    )

    def __post_init__(self) -> None:
        _check_values(self)
        if self.stem_widths is None:
            object.__setattr__(self, "stem_widths", _STEM_WIDTHS[self.stem])
        if self.stem_padding is None:
            object.__setattr__(self, "stem_padding", 3 if self.stem == "7x7" else 1)
        if self.stem_pool is None:
            object.__setattr__(self, "stem_pool", "none" if self.stem == "3x3" else "padded")
        if self.output_stride is None:
            object.__setattr__(self, "output_stride", self.natural_stride)
        _check_together(self)

    @property
    def stem_stride(self) -> int:
        """Stride of the stem's output to the input."""
        return (1 if self.stem == "3x3" else 2) * (1 if self.stem_pool == "none" else 2)

    @property
    def natural_stride(self) -> int:
        """Stride of the last map where no stage is dilated: 32 for the ImageNet networks."""
        return int(self.stem_stride * 2 ** (len(self.depths) - 1))

    def override(self, **changes: Any) -> Options:
        """These options with ``changes``; what follows from a changed one becomes natural again.

        A new ``stem`` resets the other stem options, unless they are changed too.
        """
        _check_names(changes)
        values = {name: getattr(self, name) for name in option_names()}
        for cause, followers in _FOLLOW.items():
            if cause in changes and changes[cause] != values[cause]:
                values.update(dict.fromkeys(followers))
        return Options(**{**values, **changes})

    def differences(self, other: Options) -> dict[str, Any]:
        """The options in which ``self`` differs from ``other``, with the values of ``self``."""
        return {
            name: getattr(self, name)
            for name in option_names()
            if getattr(self, name) != getattr(other, name)
        }

    def to_dict(self) -> dict[str, Any]:
        """Every option by name, as JSON types."""
        values = {name: getattr(self, name) for name in option_names()}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Options:
        """The options of ``to_dict``. Raises ``ValueError`` for an unknown or bad one."""
        _check_names(document)
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in document.items()
        }
        return cls(**values)


def option_names() -> tuple[str, ...]:
    """The names of all options, in order."""
    return tuple(option.name for option in fields(Options))


def _check_names(given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in option_names():
            raise InputError(
                f"{name!r} is no option of a network; the options are {', '.join(option_names())}"
            )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_values(options: Options) -> None:
    """Each value on its own."""
    for option in fields(Options):
        value, choices = getattr(options, option.name), option.metadata["choices"]
        missing = value is None and option.default is None
        if choices and value not in choices and not missing:
            raise InputError(f"{option.name} is {value!r}; it may be {', '.join(choices)}")
    for name in ("depths", "widths", "stem_widths"):
        value = getattr(options, name)
        if value is None and name == "stem_widths":
            continue
        if not isinstance(value, tuple) or not value or not all(map(_is_count, value)):
            raise InputError(f"{name} is {value!r}; it takes whole numbers from 1, e.g. 3,4,6,3")
    for name in ("groups", "width_per_group", "squeeze_multiple", "input_channels"):
        if not _is_count(getattr(options, name)):
            raise InputError(f"{name} is {getattr(options, name)!r}; it takes a whole number >= 1")
    for name in ("classes", "squeeze_excitation", "output_stride"):
        value = getattr(options, name)
        if value is not None and not _is_count(value):
            raise InputError(f"{name} is {value!r}; it takes a whole number >= 1, or none")
    padding = options.stem_padding
    if padding is not None and (type(padding) is not int or padding < 0):
        raise InputError(f"stem_padding is {padding!r}; it takes a whole number >= 0")
    if type(options.conv_bias) is not bool:
        raise InputError(f"conv_bias is {options.conv_bias!r}; it may be true or false")
    epsilon, momentum = options.norm_epsilon, options.norm_momentum
    if not isinstance(epsilon, float | int) or not 0 < epsilon < 1:
        raise InputError(f"norm_epsilon is {epsilon!r}; it takes a number between 0 and 1")
    if not isinstance(momentum, float | int) or not 0 < momentum <= 1:
        raise InputError(f"norm_momentum is {momentum!r}; it takes a number above 0, up to 1")


def _check_together(options: Options) -> None:
    """Choices that contradict each other."""
    assert options.stem_widths is not None
    if sum(options.depths) > MAX_BLOCKS:
        raise InputError(
            f"depths asks for {sum(options.depths)} blocks; at most {MAX_BLOCKS} are allowed"
        )
    if len(options.depths) != len(options.widths):
        raise InputError(
            f"depths has {len(options.depths)} stages and widths has {len(options.widths)}; "
            "give one width for each stage"
        )
    wanted = 3 if options.stem == "deep" else 1
    if len(options.stem_widths) != wanted:
        raise InputError(
            f"a {options.stem} stem has {wanted} convolution(s) and stem_widths has "
            f"{len(options.stem_widths)} width(s); give {wanted}"
        )
    if options.stem == "3x3" and options.stem_pool != "none":
        raise InputError(
            "the 3x3 stem keeps the full resolution and has no pool; leave stem_pool out, "
            "or choose stem 7x7 or deep"
        )
    if options.block == "basic":
        _check_basic(options)
    middles = [width * options.width_per_group // 64 for width in options.widths]
    if min(middles) < 1:
        raise InputError(
            f"width_per_group {options.width_per_group} leaves a stage of width "
            f"{min(options.widths)} without channels; give at least {-(-64 // min(options.widths))}"
        )
    natural = options.natural_stride
    allowed = [natural // 2**halvings for halvings in range(min(3, len(options.depths)))]
    if options.output_stride not in allowed:
        raise InputError(
            f"output_stride is {options.output_stride}; with this stem and "
            f"{len(options.depths)} stages it may be {', '.join(map(str, allowed))}"
        )
    inputs = (options.stem_widths[-1], *options.widths)
    if options.shortcut == "pad" and any(a > b for a, b in pairwise(inputs)):
        raise InputError(
            "shortcut pad can only add channels, and the widths "
            f"{', '.join(map(str, inputs))} (stem first) become smaller; use projection"
        )


def _check_basic(options: Options) -> None:
    for name, only in (("groups", 1), ("width_per_group", 64), ("stride_on", "3x3")):
        if getattr(options, name) != only:
            raise InputError(
                f"{name} {getattr(options, name)} is about the middle of a bottleneck, and "
                "block basic has none; use block bottleneck"
            )

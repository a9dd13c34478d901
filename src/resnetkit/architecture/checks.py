"""Validation of network options: invalid values and conflicting combinations.

Every error is one line: what was given, what is allowed, what to do.
"""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise

from resnetkit.architecture.option_fields import CONVOLUTIONS, OptionFields
from resnetkit.errors import InputError

#: More blocks than any published ResNet; a larger description is a mistake or an attack.
MAX_BLOCKS = 2000


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def check_values(options: OptionFields) -> None:
    """Check each value."""
    for option in fields(options):
        value, choices = getattr(options, option.name), option.metadata["choices"]
        missing = value is None and option.default is None
        if choices and value not in choices and not missing:
            raise InputError(f"{option.name} is {value!r}; it must be one of {', '.join(choices)}")
    for name in ("depths", "widths", "stem_widths", "conv_widths"):
        value = getattr(options, name)
        if value is None and name in ("stem_widths", "conv_widths"):
            continue
        if not isinstance(value, tuple) or not value or not all(map(_is_count, value)):
            raise InputError(f"{name} is {value!r}; it must be whole numbers from 1, e.g. 3,4,6,3")
    for name in (
        "groups",
        "width_per_group",
        "squeeze_multiple",
        "norm_groups",
        "in_chans",
        "reduce_first",
    ):
        if not _is_count(getattr(options, name)):
            raise InputError(
                f"{name} is {getattr(options, name)!r}; it must be a whole number >= 1"
            )
    for name in ("num_classes", "squeeze_excitation", "output_stride"):
        value = getattr(options, name)
        if value is not None and not _is_count(value):
            raise InputError(f"{name} is {value!r}; it must be a whole number >= 1, or none")
    padding = options.stem_padding
    if padding is not None and (type(padding) is not int or padding < 0):
        raise InputError(f"stem_padding is {padding!r}; it must be a whole number >= 0")
    if options.stem_conv_stride not in (None, 1, 2) or type(options.stem_conv_stride) is bool:
        raise InputError(f"stem_conv_stride is {options.stem_conv_stride!r}; it must be 1 or 2")
    for name in ("conv_bias", "efficient_attention"):
        if type(getattr(options, name)) is not bool:
            raise InputError(f"{name} is {getattr(options, name)!r}; it must be true or false")
    if type(options.shortcut_kernel) is not int or options.shortcut_kernel not in (1, 3):
        raise InputError(f"shortcut_kernel is {options.shortcut_kernel!r}; it must be 1 or 3")
    blocks = options.blocks
    if blocks is not None and not (
        isinstance(blocks, tuple)
        and blocks
        and all(isinstance(kind, str) and kind in CONVOLUTIONS for kind in blocks)
    ):
        raise InputError(f"blocks is {blocks!r}; it must be basic or bottleneck for each stage")
    epsilon, momentum = options.norm_epsilon, options.norm_momentum
    if not isinstance(epsilon, float | int) or not 0 < epsilon < 1:
        raise InputError(f"norm_epsilon is {epsilon!r}; it must be between 0 and 1")
    if not isinstance(momentum, float | int) or not 0 < momentum <= 1:
        raise InputError(f"norm_momentum is {momentum!r}; it must be above 0 and at most 1")


def check_together(options: OptionFields) -> None:
    """Check for conflicting options."""
    assert options.stem_widths is not None
    if sum(options.depths) > MAX_BLOCKS:
        raise InputError(
            f"depths has {sum(options.depths)} blocks; at most {MAX_BLOCKS} are allowed"
        )
    if len(options.depths) != len(options.widths):
        raise InputError(
            f"depths has {len(options.depths)} stages and widths has {len(options.widths)}; "
            "give one width for each stage"
        )
    if len(options.stage_blocks) != len(options.depths):
        raise InputError(
            f"depths has {len(options.depths)} stages and blocks has {len(options.stage_blocks)}; "
            "give one block for each stage"
        )
    wanted = 3 if options.stem == "deep" else 1
    if len(options.stem_widths) != wanted:
        raise InputError(
            f"a {options.stem} stem has {wanted} convolution(s) and stem_widths has "
            f"{len(options.stem_widths)} width(s); give {wanted}"
        )
    kernel = 7 if options.stem == "7x7" else 3
    if options.stem_padding is not None and options.stem_padding >= kernel:
        raise InputError(
            f"stem_padding is {options.stem_padding}; it must be 0 to {kernel - 1} for a "
            f"{kernel}x{kernel} convolution"
        )
    if options.stem == "3x3" and options.stem_pool == "conv":
        raise InputError("stem_pool conv is for stem 7x7 or deep; use padded, caffe or none")
    if "basic" in options.stage_blocks:
        _check_basic(options)
    if min(width * options.width_per_group // 64 for width in options.widths) < 1:
        raise InputError(
            f"width_per_group {options.width_per_group} leaves a stage of width "
            f"{min(options.widths)} without channels; use at least {-(-64 // min(options.widths))}"
        )
    _check_widths(options)
    _check_norm(options)
    _check_extras(options)
    natural = options.natural_stride
    allowed = [natural // 2**halvings for halvings in range(min(3, len(options.depths)))]
    if options.output_stride not in allowed:
        raise InputError(
            f"output_stride is {options.output_stride}; with this stem and "
            f"{len(options.depths)} stages it must be one of {', '.join(map(str, allowed))}"
        )
    inputs = (options.stem_widths[-1], *options.stage_outputs)
    if options.shortcut == "pad" and any(a > b for a, b in pairwise(inputs)):
        raise InputError(
            "shortcut pad can only add channels, and the widths "
            f"{', '.join(map(str, inputs))} (stem first) decrease; use projection"
        )


def _check_basic(options: OptionFields) -> None:
    for name, only in (("groups", 1), ("width_per_group", 64), ("stride_on", "3x3")):
        if getattr(options, name) != only:
            raise InputError(
                f"{name} {getattr(options, name)} applies to bottlenecks, not to block basic; "
                "use block bottleneck"
            )


def _check_widths(options: OptionFields) -> None:
    """Check the widths of the blocks' convolutions."""
    if options.conv_widths is None:
        for first, *others in (stage[0] for stage in options.main_widths):
            if not first or (len(others) > 1 and first % options.groups):
                raise InputError(
                    f"reduce_first {options.reduce_first} leaves a block's first convolution with "
                    f"{first} channels for {options.groups} groups; use a smaller one"
                )
        return
    for name in ("groups", "reduce_first"):
        if getattr(options, name) != 1:
            raise InputError(f"conv_widths sets every width; remove {name}")
    kinds = zip(options.stage_blocks, options.depths, strict=True)
    wanted = sum(CONVOLUTIONS[kind] * depth for kind, depth in kinds)
    if len(options.conv_widths) != wanted:
        raise InputError(
            f"conv_widths has {len(options.conv_widths)} widths and the blocks have {wanted} "
            "convolutions; give one for each"
        )
    for number, stage in enumerate(options.main_widths, start=1):
        outputs = sorted({block[-1] for block in stage})
        if len(outputs) > 1:
            raise InputError(
                f"conv_widths has blocks with {', '.join(map(str, outputs))} output channels in "
                f"stage {number}; they must be equal"
            )


def _check_extras(options: OptionFields) -> None:
    """Check gates, anti-aliasing and wide projections."""
    if options.efficient_attention and options.squeeze_excitation is not None:
        raise InputError("efficient_attention and squeeze_excitation are both gates; use only one")
    if options.shortcut_kernel > 1 and options.shortcut != "projection":
        raise InputError(
            f"shortcut_kernel {options.shortcut_kernel} applies to strided projections, not to "
            f"shortcut {options.shortcut}; use shortcut projection"
        )
    if options.anti_alias == "none":
        return
    for name, only in (("stride_on", ("3x3",)), ("stem_pool", ("padded", "none"))):
        if getattr(options, name) not in only:
            raise InputError(
                f"anti_alias {options.anti_alias} conflicts with {name} "
                f"{getattr(options, name)}; use {name} {only[0]}"
            )
    if options.rounding != "floor":
        raise InputError(f"anti_alias {options.anti_alias} rounds down; use rounding floor")


def _check_norm(options: OptionFields) -> None:
    if options.norm == "none" and not options.conv_bias:
        raise InputError("norm none requires convolutions with a bias; set conv_bias too")
    if options.norm != "group":
        return
    for width in options.normed_widths:
        if width % options.norm_groups:
            raise InputError(
                f"norm_groups {options.norm_groups} does not divide a norm of {width} channels; "
                "use a divisor of every width"
            )

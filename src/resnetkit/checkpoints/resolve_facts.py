"""Resolves ambiguous attributes from a configuration or documented defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from resnetkit.architecture.network import Network
from resnetkit.architecture.options import Options
from resnetkit.checkpoints.checkpoint import Ambiguity, Reading
from resnetkit.checkpoints.dialect import USUAL, Dialect, DialectPreprocess, fitting
from resnetkit.checkpoints.facts import Fact
from resnetkit.errors import InputError

#: The prefix of the source of an undocumented default.
UNDOCUMENTED = "not documented"
#: The source of an option that the tensors show.
SHAPES = "the names and shapes"


def settled(
    dialect: Dialect, described: dict[str, Any], stated: Mapping[str, Any]
) -> tuple[Network, dict[str, str], tuple[Ambiguity, ...]]:
    """The network with the dialect's documented values of open facts."""
    usual = Options()
    known = {
        option: SHAPES
        for option, value in described.items()
        if option not in USUAL or value != getattr(usual, option)
    }
    known |= dict.fromkeys(dialect.fixed, f"always so in {dialect.name}")
    choices = {**dialect.fixed, **described}
    for option in stated:
        if option not in described:
            choices[option] = stated[option]
            known[option] = "the configuration"
    ambiguous: list[Ambiguity] = []
    natural = Options(**{**choices, "output_stride": None, "norm_groups": 1})
    for fact in dialect.facts:
        values = fact.ordered(natural)
        if fact.option in choices or not _matters(fact, natural):
            continue
        stride = choices.get("output_stride", natural.natural_stride)
        if fact.option == "dilation_entry" and stride == natural.natural_stride:
            continue  # no stage is dilated
        choices[fact.option] = values[0]
        if len(values) == 1:
            known[fact.option] = "nothing else is possible"
            continue
        ambiguous.append(
            Ambiguity(
                fact=fact.option,
                candidates=values,
                default=values[0],
                meaning=fact.meaning,
                means=tuple(fact.means(value, natural) for value in values),
                source=fact.source,
                doubtful=_doubtful(dialect, fact),
            )
        )
    network = Network(name="custom", options=Options(**choices))
    if offered := fitting(dialect.preprocess, network):
        ambiguous.append(preprocessing(offered))
    return network, known, tuple(ambiguous)


def configured(dialect: Dialect, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options in a configuration of the dialect's framework."""
    if dialect.configured is None or config is None:
        return {}
    return dialect.configured(config)


def _matters(fact: Fact, options: Options) -> bool:
    """Whether the fact applies to a network of these options."""
    option = fact.option
    if fact.applies is not None and not fact.applies(options):
        return False
    if option == "stride_on":
        return "basic" not in options.stage_blocks
    if option == "anti_alias":
        return options.stem_pool != "conv"
    if option == "norm_epsilon":
        return options.norm != "none"
    if option == "norm_groups":
        return options.norm == "group"
    if option == "output_stride":
        return len(options.depths) > 1
    return True


def _doubtful(dialect: Dialect, fact: Fact) -> bool:
    """Whether the framework has both strides, or the default is undocumented."""
    both = fact.option == "stride_on" and len(dialect.holds.get("stride_on", (1, 2))) > 1
    return both or fact.source.startswith(UNDOCUMENTED)


def preprocessing(
    choices: Sequence[DialectPreprocess], own: Sequence[DialectPreprocess] = ()
) -> Ambiguity:
    """The preprocessing as an open fact; the first choice is the default.

    ``own`` are those of the framework, if others offer some too; several channel orders or scales
    make it doubtful.
    """
    return Ambiguity(
        fact="preprocess",
        candidates=tuple(choice.label for choice in choices),
        default=choices[0].label,
        meaning="how images are resized, cropped and normalised, and the channel order",
        means=tuple(choice.preprocess.text for choice in choices),
        source=choices[0].source,
        doubtful=choices[0].source.startswith(UNDOCUMENTED)
        or len({(c.preprocess.channels, c.preprocess.divisor) for c in own or choices}) > 1,
    )


def with_choices(reading: Reading, others: Iterable[Dialect]) -> Reading:
    """The reading with the preprocessings of dialects with the same names added."""
    if reading.network.options.in_chans == 1:
        return reading  # the one for grey images is shared
    own = fitting(reading.dialect.preprocess, reading.network)
    first = {choice.label: choice for choice in own}
    more = (choice for other in others for choice in other.preprocess)
    choices = {choice.label: choice for choice in fitting(more, reading.network)}
    choices = {**first, **{k: v for k, v in choices.items() if k not in first}}
    if len(choices) == len(first):
        return reading
    offered = tuple(choices.values())
    still_open = tuple(fact for fact in reading.ambiguous if fact.fact != "preprocess")
    return replace(
        reading,
        dialect=replace(reading.dialect, preprocess=offered),
        ambiguous=(*still_open, preprocessing(offered, own)),
    )


def check_config(reading: Reading, config: Mapping[str, Any]) -> None:
    """Check that the configuration and the shapes agree."""
    for option, value in configured(reading.dialect, config).items():
        actual = getattr(reading.network.options, option)
        if actual != value:
            raise InputError(
                f"the configuration has {option} {value}, but the tensors have {actual}; "
                "give the matching configuration"
            )


def doubt(fact: Ambiguity) -> str:
    """A warning about an assumed fact that changes the outputs."""
    others = " or ".join(plain(value) for value in fact.candidates if value != fact.default)
    return (
        f"{fact.fact} {plain(fact.default)} is a guess that changes the outputs"
        f"{f', and may be {others}' if others else ''} ({fact.source}); "
        "resolve it with labelled images (resnetkit evaluate --try)"
    )


def plain(value: object) -> str:
    """A value of an option as text."""
    return "none" if value is None else str(value)

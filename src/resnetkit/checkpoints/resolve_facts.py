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

#: How the source of a default begins that no project documents.
UNDOCUMENTED = "not documented"
#: Where an option is known from that the tensors show.
SHAPES = "the names and shapes"


def settled(
    dialect: Dialect, described: dict[str, Any], told: Mapping[str, Any]
) -> tuple[Network, dict[str, str], tuple[Ambiguity, ...]]:
    """The network, with what the tensors do not show as the dialect documents it."""
    usual = Options()
    known = {
        option: SHAPES
        for option, value in described.items()
        if option not in USUAL or value != getattr(usual, option)
    }
    known |= dict.fromkeys(dialect.fixed, f"always so in {dialect.name}")
    choices = {**dialect.fixed, **described}
    for option in told:
        if option not in described:
            choices[option] = told[option]
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
    """The options that a configuration tells, if it is one of the dialect's framework."""
    if dialect.configured is None or config is None:
        return {}
    return dialect.configured(config)


def _matters(fact: Fact, options: Options) -> bool:
    """Whether a network of these options has what the fact is about."""
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
    """Whether the framework has both strides, or nothing documents the default."""
    both = fact.option == "stride_on" and len(dialect.holds.get("stride_on", (1, 2))) > 1
    return both or fact.source.startswith(UNDOCUMENTED)


def preprocessing(
    choices: Sequence[DialectPreprocess], own: Sequence[DialectPreprocess] = ()
) -> Ambiguity:
    """The question how images are prepared; the first choice is the default.

    ``own`` are those of the framework, where others offer some too; a framework with several orders
    of channels or scales leaves it in doubt.
    """
    return Ambiguity(
        fact="preprocess",
        candidates=tuple(choice.label for choice in choices),
        default=choices[0].label,
        meaning="how images are resized, cut and normalised, and the order of the channels",
        means=tuple(choice.preprocess.text for choice in choices),
        source=choices[0].source,
        doubtful=choices[0].source.startswith(UNDOCUMENTED)
        or len({(c.preprocess.channels, c.preprocess.divisor) for c in own or choices}) > 1,
    )


def with_choices(reading: Reading, others: Iterable[Dialect]) -> Reading:
    """The reading with the preprocessing of dialects that read the same names, besides its own."""
    if reading.network.options.in_chans == 1:
        return reading  # the one for grey images is everybody's
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
    """The configuration and the shapes have to tell the same."""
    for option, value in configured(reading.dialect, config).items():
        actual = getattr(reading.network.options, option)
        if actual != value:
            raise InputError(
                f"the configuration says {option} {value} and the tensors say {actual}; "
                "give the configuration that belongs to them"
            )


def doubt(fact: Ambiguity) -> str:
    """A line on a fact that changes the answers, and of which the names show nothing."""
    others = " or ".join(plain(value) for value in fact.candidates if value != fact.default)
    return (
        f"{fact.fact} {plain(fact.default)} is a guess that changes the answers"
        f"{f', and may be {others}' if others else ''} ({fact.source}); "
        "images with known classes settle it (resnetkit evaluate --try)"
    )


def plain(value: object) -> str:
    """A value of an option in words."""
    return "none" if value is None else str(value)

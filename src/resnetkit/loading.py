"""From any checkpoint, or one of our own files, to a bundle.

Total and strict: every tensor is used once and every shape is equal. What the tensors do not show
has to be told, or to be assumed in so many words; both are written into the bundle's origin. A
bundle is opened without torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit import writing
from resnetkit.bundle import Bundle
from resnetkit.bundle import load as load_bundle
from resnetkit.checkpoints.container import Arrays, Container, open_container
from resnetkit.checkpoints.description import tensors
from resnetkit.checkpoints.identification import Identification, averaged, identify, is_bundle
from resnetkit.checkpoints.reading import COUNTER, Ambiguity, Reading
from resnetkit.errors import InputError
from resnetkit.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import Tensor

#: The types of numbers that a network is computed from.
FRACTIONS = ("float32", "float16", "bfloat16", "float64")
#: Answers what a file cannot tell with one of the candidates.
Ask = Callable[[Ambiguity], Any]


def load(
    path: str | Path,
    *,
    assume: bool = False,
    prefix: str | None = None,
    ema: bool | None = None,
    drop: Sequence[str] = (),
    strict: bool = False,
    classes: int | None = None,
    preprocess: str | Preprocess | None = None,
    ask: Ask | None = None,
    **facts: Any,
) -> Bundle:
    """The bundle of a checkpoint of any framework, or of one of our own files.

    ``facts`` are options that the tensors do not show, e.g. ``stride_on="1x1"``; ``preprocess`` is
    one of the labels that ``identify`` lists, or a ``Preprocess``. What is not told is asked for
    with ``ask``, or taken as the framework documents it with ``assume``. ``prefix`` chooses one of
    several networks in a file, ``ema`` between weights and their average over training. ``drop``
    names leftovers (or beginnings of them, ``*`` for any text) to do without, or the classifier.
    The tensors of another head than a classifier - an embedding, a decoder - are left out and
    listed in ``origin["left_out"]``, unless ``strict``, which wants them to be dropped too.
    ``classes`` puts a new, untrained classifier in the place of the old one.

    Raises ``ValueError`` for a file that cannot be read, in which no ResNet is found, whose tensors
    are not exactly those of the network, and for facts that stay open.
    """
    container = open_container(path)
    if is_bundle(container):
        told = {**facts, "prefix": prefix, "ema": ema, "preprocess": preprocess, "drop": drop}
        _check_untold(path, told)
        bundle = load_bundle(path)
        return bundle if classes is None else bundle.with_new_head(_numbered(classes))
    found = identify(container, prefix=prefix, ema=ema)
    if ema is None and prefix is None and averaged(found.reading) and found.reading.copies:
        raise InputError(
            f"{path} has weights and their average over training; choose with --ema or --no-ema"
        )
    reading, origin = _settled(found, facts, preprocess, assume, ask)
    reading = reading.without_classifier(drop)
    left_out = () if strict else reading.other_head()
    reading.check(drop, without=left_out)
    _check_fractions(found.container, reading)
    theirs = Arrays(found.container)  # each is turned and let go before the next is read
    arrays = {name: writing.tensor(reading.ours(name, theirs)) for name in tensors(reading.network)}
    names = found.classes if found.classes and reading.network.options.classes else None
    bundle = Bundle(
        network=reading.network,
        arrays=arrays,
        preprocess=_preprocess(reading, origin, preprocess),
        classes=names or _numbered(reading.network.options.classes),
        origin={
            **origin,
            "class_names": "config.json" if names else None,
            "dropped": list(drop),
            "left_out": list(left_out),
            "warnings": [*found.warnings, *_left_out(left_out), *_not_finite(arrays)],
        },
    )
    return bundle if classes is None else bundle.with_new_head(_numbered(classes))


def _check_fractions(container: Container, reading: Reading) -> None:
    """Weights of whole numbers are quantised, and what they stand for is elsewhere."""
    for ours, theirs in reading.names.items():
        dtype = container.arrays[theirs].dtype
        if dtype not in FRACTIONS and not ours.endswith(COUNTER):
            raise InputError(
                f"{container.path} has {theirs} in {dtype}, and weights are read in "
                f"{', '.join(FRACTIONS)}; give the file from before it was quantised"
            )


def _check_untold(path: str | Path, told: Mapping[str, Any]) -> None:
    """A bundle says all of itself; what is told besides would be ignored."""
    given = [name for name, value in told.items() if value not in (None, (), [])]
    if given:
        raise InputError(
            f"{path} is a bundle, which says all of this itself; leave out {', '.join(given)}"
        )


def _not_finite(arrays: Mapping[str, Tensor]) -> list[str]:
    """A line on the tensors with numbers that are NaN or infinite, if there are any."""
    found = [name for name, tensor in arrays.items() if not _finite(tensor)]
    if not found:
        return []
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return [
        f"{len(found)} tensors have numbers that are NaN or infinite: {', '.join(found[:3])}{more}"
    ]


def _finite(tensor: Tensor) -> bool:
    """Whether all numbers are; a finite sum says so without a copy of the tensor."""
    return math.isfinite(tensor.sum()) or bool(tensor.isfinite().all())


def _numbered(classes: int | None) -> tuple[str, ...]:
    """Class names where a file has none."""
    return tuple(str(number) for number in range(classes or 0))


def _settled(
    found: Identification,
    facts: Mapping[str, Any],
    preprocess: str | Preprocess | None,
    assume: bool,
    ask: Ask | None,
) -> tuple[Reading, dict[str, Any]]:
    """The reading with nothing left open, and where each fact came from."""
    given, assumed = dict(facts), {}
    if preprocess is not None:
        given["preprocess"] = "given" if isinstance(preprocess, Preprocess) else preprocess
    still_open = [fact for fact in found.reading.ambiguous if fact.fact not in given]
    for fact in still_open:
        if assume:
            assumed[fact.fact] = fact.default
        elif ask is not None:
            given[fact.fact] = ask(fact)
    if still_open and not assume and ask is None:
        questions = "; ".join(
            f"{fact.fact} ({' or '.join(map(str, fact.candidates))})" for fact in still_open
        )
        raise InputError(
            f"{found.container.path} cannot tell {questions}; give each as a flag, "
            "e.g. --stride-on 3x3, or take the documented ones (the first of each) with --assume"
        )
    settled = {**given, **assumed}
    if found.reading.choices:  # what a configuration tells is known, unless another is given
        settled.setdefault("preprocess", found.reading.choices[0].label)
    options = {name: value for name, value in settled.items() if name != "preprocess"}
    origin = {
        "made_by": "resnetkit convert",
        "file": found.container.path.name,
        "container": found.container.kind,
        "dialect": found.reading.dialect.name,
        "wrappers": list(found.reading.wrappers),
        "given": {name: value for name, value in given.items() if name != "preprocess"},
        "assumed": assumed,
        "preprocess": settled.get("preprocess"),
    }
    return (found.reading.settle(**options) if options else found.reading), origin


def _preprocess(
    reading: Reading, origin: Mapping[str, Any], given: str | Preprocess | None
) -> Preprocess:
    if isinstance(given, Preprocess):
        return given
    if not reading.preprocess and origin["preprocess"] is None:
        return Preprocess(size=reading.network.input_size)
    for choice in reading.preprocess:
        if choice.label == origin["preprocess"]:
            return choice.preprocess
    labels = ", ".join(choice.label for choice in reading.preprocess) or "none of its own"
    raise InputError(
        f"{reading.dialect.name} has no preprocessing {origin['preprocess']!r}; it has {labels}"
    )


def _left_out(names: Sequence[str]) -> list[str]:
    """A line on the tensors of another head, if there are any."""
    if not names:
        return []
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [
        f"{len(names)} tensors of a head that is no classifier are left out: "
        f"{', '.join(names[:3])}{more}"
    ]

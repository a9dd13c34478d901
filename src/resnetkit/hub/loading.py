"""Loads a checkpoint of any framework as a bundle.

Every tensor inside the network is used exactly once, with its exact shape. Attributes that the
tensors do not show are given, or default to the framework's documented values with a warning; both
are recorded in the bundle's origin. A bundle is opened without torch.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resnetkit.architecture.parameters import tensors
from resnetkit.bundle.bundle import Bundle
from resnetkit.bundle.bundle import load as load_bundle
from resnetkit.checkpoints import writing
from resnetkit.checkpoints.checkpoint import COUNTER, Reading, begins
from resnetkit.checkpoints.classifier_head import left_out
from resnetkit.checkpoints.identification import Identification, averaged, identify, is_bundle
from resnetkit.checkpoints.resolve_facts import SHAPES, doubt, plain
from resnetkit.errors import AssumptionWarning, InputError
from resnetkit.formats.opening import Container, LazyArrays, open_container
from resnetkit.hub.load_options import FRACTIONS, LoadOptions, numbered
from resnetkit.preprocess import Preprocess

if TYPE_CHECKING:
    from resnetkit.checkpoints.dialect import Array


def load_checkpoint(path: str | Path, options: LoadOptions) -> Bundle:
    """The bundle of a file; see ``resnetkit.load``."""
    container = open_container(path)
    if is_bundle(container):
        options.check_none_given(path)
        return options.with_head(load_bundle(path))
    found = identify(container, prefix=options.prefix, ema=options.ema, head=options.head)
    either = options.ema is None and options.prefix is None
    if either and averaged(found.reading) and found.reading.copies:
        text = f"{path} has raw and averaged (EMA) weights; choose with"
        raise InputError(f"{text} ema=True or ema=False", field="ema")
    reading, origin = settled(found, options)
    _check_fractions(found.container, reading)
    # Each is converted and freed before the next is read.
    theirs = LazyArrays(found.container.read, found.container.arrays)
    arrays = {
        name: np.asarray(_of_type(reading.ours(name, theirs), options.dtype), order="C")
        for name in tensors(reading.network)
    }
    names = found.classes if found.classes and reading.network.options.num_classes else None
    left = left_names(reading, options)
    bundle = Bundle(
        network=reading.network,
        arrays=writing.Tensors(arrays),
        preprocess=preprocess_of(reading, origin, options.preprocess),
        classes=names or numbered(reading.network.options.num_classes),
        origin={
            **origin,
            "class_names": "config.json" if names else None,
            "dropped": list(options.drop),
            "left_out": left,
            "warnings": [
                *found.warnings,
                *left_out(left, reading),
                *_dropped(reading, options.drop),
                *_not_finite(arrays),
            ],
        },
    )
    if said := spoken_lines(bundle.origin):
        warnings.warn(f"{path}: {'; '.join(said)}", AssumptionWarning, stacklevel=3)
    return options.with_head(bundle)


def spoken_lines(origin: Mapping[str, Any]) -> list[str]:
    """Warnings about a loaded file of this origin: assumptions and irregularities."""
    assumed = origin.get("assumed", {})
    if not assumed and not origin.get("warnings"):
        return []
    taken = ", ".join(f"{name} {plain(value)}" for name, value in assumed.items())
    lines = [f"assumed as {origin['dialect']} documents: {taken}"] if assumed else []
    return [*lines, *origin.get("doubts", ()), *origin.get("warnings", ())]


def settled(found: Identification, options: LoadOptions) -> tuple[Reading, dict[str, Any]]:
    """The reading of a file with every open fact resolved, and where each came from.

    Raises ``InputError`` as ``resnetkit.load`` does for tensors that are missing or misshapen.
    """
    _check_norms(found, options.facts)
    reading, origin = _resolved(found, options)
    reading = reading.without_classifier(options.drop)
    try:
        reading.check(options.drop, strict=options.strict)
    except InputError as error:
        raise error.behind(f"{found.container.path}: ") from None
    return reading, origin


def left_names(reading: Reading, options: LoadOptions) -> list[str]:
    """The tensors outside the network that are skipped unnamed."""
    return [n for n in reading.outside if not any(begins(n, start) for start in options.drop)]


def _check_norms(found: Identification, facts: Mapping[str, Any]) -> None:
    """Norms without statistics are group norms only if stated."""
    reading = found.reading
    if reading.network.options.norm != "group" or "norm" in facts:
        return
    if reading.known.get("norm") != SHAPES:
        return  # stated by a configuration or a graph
    text = (
        f"{found.container.path} has scales and biases of norms but no running statistics. Batch "
        "norms need them: save state_dict(), as named_parameters() and averaged parameters "
        "lack them. If these are group norms, give"
    )
    raise InputError(f"{text} norm='group'", field="norm")


def _of_type(array: Array, dtype: str | None) -> Array:
    """Cast floating-point arrays; keep integers."""
    if dtype is None or array.dtype.name == dtype or array.dtype.name not in FRACTIONS:
        return array
    from resnetkit.formats.dtypes import numpy_dtype

    return array.astype(numpy_dtype(dtype))


def _check_fractions(container: Container, reading: Reading) -> None:
    """Integer weights are quantised, and their scales are stored elsewhere."""
    for ours, theirs in reading.names.items():
        dtype = container.arrays[theirs].dtype
        if dtype not in FRACTIONS and not ours.endswith(COUNTER):
            raise InputError(
                f"{container.path} has {theirs} in {dtype}, and weights must be "
                f"{', '.join(FRACTIONS)}; give the unquantised file"
            )


def _dropped(reading: Reading, drop: Sequence[str]) -> list[str]:
    """A message about tensors inside the network that were dropped anyway."""
    found = [name for name in reading.inside if any(begins(name, start) for start in drop)]
    if not found:
        return []
    return [
        f"{len(found)} tensors inside the network were dropped on request: {', '.join(found[:3])}"
    ]


def _not_finite(arrays: Mapping[str, Array]) -> list[str]:
    """A message about tensors with NaN or infinite values, if there are any."""
    found = [name for name, array in arrays.items() if not _finite(array)]
    if not found:
        return []
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return [f"{len(found)} tensors have NaN or infinite values: {', '.join(found[:3])}{more}"]


def _finite(array: Array) -> bool:
    """Whether all values are finite; a finite sum proves it without copying the array."""
    return math.isfinite(array.sum(dtype=np.float32)) or bool(np.isfinite(array).all())


def _resolved(found: Identification, choices: LoadOptions) -> tuple[Reading, dict[str, Any]]:
    """Resolve every open fact, and record where each came from."""
    given, preprocess = dict(choices.facts), choices.preprocess
    if preprocess is not None:
        given["preprocess"] = "given" if isinstance(preprocess, Preprocess) else preprocess
    still_open = [fact for fact in found.reading.ambiguous if fact.fact not in given]
    assumed = {fact.fact: fact.default for fact in still_open}
    if still_open and choices.strict:
        questions = "; ".join(
            f"{fact.fact} ({' or '.join(map(str, fact.candidates))})" for fact in still_open
        )
        first = still_open[0]
        text = f"{found.container.path} does not determine {questions}; give each, e.g."
        rest = "or accept the documented values (the first of each) without"
        raise InputError(
            f"{text} {first.fact}={first.default!r}, {rest} strict=True",
            field=(f"{first.fact}=", "strict"),
        )
    options = {name: value for name, value in given.items() if name != "preprocess"}
    # Assumed facts are in the reading already; given ones may change the natural choices.
    reading = found.reading.settle(**options) if options else found.reading
    final = reading.network.options
    assumed = {k: v if k == "preprocess" else getattr(final, k) for k, v in assumed.items()}
    if final.output_stride != final.natural_stride and "dilation_entry" not in reading.known:
        assumed["dilation_entry"] = final.dilation_entry
    settled = {**given, **assumed}
    if found.reading.choices:  # a configuration's value is known, unless another is given
        settled.setdefault("preprocess", found.reading.choices[0].label)
    origin = {
        "made_by": "resnetkit convert",
        "file": found.container.path.name,
        "container": found.container.kind,
        "dialect": found.reading.dialect.name,
        "wrappers": list(found.reading.wrappers),
        "given": {name: value for name, value in given.items() if name != "preprocess"},
        "assumed": assumed,
        "doubts": [doubt(fact) for fact in still_open if fact.fact in assumed and fact.doubtful],
        "preprocess": settled.get("preprocess"),
    }
    return reading, origin


def preprocess_of(
    reading: Reading, origin: Mapping[str, Any], given: str | Preprocess | None = None
) -> Preprocess:
    """The preprocessing that is given, or that the resolved facts name."""
    if isinstance(given, Preprocess):
        return given
    if not reading.preprocess and origin["preprocess"] is None:
        count = reading.network.options.in_chans
        zeros, ones = (0.0,) * count, (1.0,) * count
        size = reading.network.input_size
        return Preprocess(size=size, channels="other", mean=zeros, std=ones)
    for choice in reading.preprocess:
        if choice.label == origin["preprocess"]:
            return choice.preprocess
    labels = ", ".join(choice.label for choice in reading.preprocess) or "none of its own"
    raise InputError(
        f"{reading.dialect.name} has no preprocessing {origin['preprocess']!r}; it has {labels}"
    )

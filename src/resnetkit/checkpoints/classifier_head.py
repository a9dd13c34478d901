"""Finds the classifier among the tensors outside the body."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from resnetkit.checkpoints.checkpoint import PROJECTS, Reading, segments
from resnetkit.errors import InputError

#: Name parts of linear layers that are not classifiers.
_OTHER = re.compile(
    r"proj|mlp|predictor|prototype|embed|queue|memory|bank|cent(er|re)|arcface|cosface|margin"
    r"|rpn|roi|box|fpn|neck|decod|attn|critic|discriminator"
)
#: Name parts of networks trained in pairs, without classes.
_PAIRED = {"teacher", "student", "online", "target", "online_network", "target_network"}
_PAIRED |= {"base_encoder", "momentum_encoder", "online_encoder", "target_encoder"}
#: Name parts of layers that work on outputs, not on features.
_MEASURES = re.compile(
    r"loss|criterion|metric|acc(uracy)?$|acc_|_acc|auroc|auc|f1|confusion|confmat|recall|precision"
)


def with_classifier(reading: Reading, named: str | None = None) -> Reading:
    """The reading with its classifier, if a single linear layer after the pool is left over.

    It has a weight of (classes, features), optionally a bias, and no sibling layers, which would
    make it part of something else. ``named`` selects the layer instead, by its name in the file,
    with or without the body's prefix. Raises ``InputError`` if ``named`` is not such a layer.
    """
    layers = linear_layers(reading)
    if named is not None:
        for layer in (named, reading.body + named, reading.prefix + named):
            if layer in layers:
                return _with(reading, layer)
        some = ", ".join(list(layers)[:4]) or "none"
        width = reading.network.features
        text = f"is not a linear layer of {width} inputs outside the body; candidates are {some}"
        raise InputError(f"head={named!r} {text}", field="head")
    if reading.network.options.num_classes is not None or reading.missing or reading.misshapen:
        return reading
    likely = [layer for layer in layers if _classifies(reading, layer)]
    if len(likely) != 1 or _others(reading, likely[0]):
        return reading
    return _with(reading, likely[0])


def linear_layers(reading: Reading) -> dict[str, int]:
    """The leftover linear layers on the features: names and numbers of outputs."""
    suffix = reading.dialect.suffixes["linear"]["weight"]
    found = {}
    for name in reading.outside:
        shape = reading.dialect.our_shape(reading.shapes[name])
        if name.endswith(suffix) and len(shape) == 2 and shape[1] == reading.network.features:
            found[name.removesuffix(suffix)] = shape[0]
    return found


def _with(reading: Reading, layer: str) -> Reading:
    return replace(reading, classifier=layer).settle(num_classes=linear_layers(reading)[layer])


def _classifies(reading: Reading, layer: str) -> bool:
    """Judge by its name; contrastively trained networks have a projection instead."""
    words = segments(layer)
    return not (
        (PROJECTS | _PAIRED) & set(reading.wrappers)
        or any(_OTHER.search(w.lower()) or _MEASURES.search(w.lower()) for w in words)
    )


def _others(reading: Reading, layer: str) -> list[str]:
    """Other tensors beside the layer, except projections and metrics."""
    start, word = reading.part(layer + reading.dialect.suffixes["linear"]["weight"])
    own = {layer + suffix for suffix in reading.dialect.suffixes["linear"].values()}
    return [
        name
        for name in reading.outside
        if name.startswith(start)
        and name not in own
        and reading.shapes[name] not in ((), (1,))
        and (reading.part(name)[1] == word or not _is_parallel(reading.part(name)[1]))
    ]


def _is_parallel(word: str) -> bool:
    """Whether it is a layer beside the classifier: on the features, or measuring the outputs."""
    return bool(_OTHER.search(word.lower()) or _MEASURES.search(word.lower())) and not re.search(
        "embed|neck|attn", word.lower()
    )


def left_out(names: Iterable[str], reading: Reading) -> list[str]:
    """A message about skipped tensors outside the network, if there are any.

    Lists the layers of a potential classifier.
    """
    names = list(names)
    if not names:
        return []
    near = [name for name in names if name.startswith(reading.prefix)] or names
    shown = sorted(near, key=lambda name: (not name.endswith("weight"), names.index(name)))[:6]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    text = f"{len(names)} tensors outside the network are skipped: {', '.join(shown)}{more}"
    if reading.network.options.num_classes is None:
        text += "; no classifier was found"
    return [text]

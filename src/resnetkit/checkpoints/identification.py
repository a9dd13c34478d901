"""Identifies a file of weights: framework, network, and what remains ambiguous.

Reads the names and shapes of all arrays, and the numbers of the norms. Nothing here
imports torch.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.architecture.layer import Norm
from resnetkit.architecture.network import Network
from resnetkit.checkpoints.checkpoint import WRAPPERS, Reading
from resnetkit.checkpoints.classifier_head import with_classifier
from resnetkit.checkpoints.config_json import Configuration, beside
from resnetkit.checkpoints.dialect import DialectPreprocess
from resnetkit.checkpoints.key_normalization import respelled, without_inner_wrappers
from resnetkit.checkpoints.module_attributes import with_settings
from resnetkit.checkpoints.recognition import read
from resnetkit.errors import InputError, parsed
from resnetkit.formats.opening import Container, open_container

if TYPE_CHECKING:
    from resnetkit.checkpoints.dialect import Array

#: Wrappers that hold an average of the weights over training.
AVERAGES = {"state_dict_ema", "model_ema", "ema"}
#: The names of what a layer that prepares images takes off and divides by.
_NORMALISER = re.compile(
    r"(^|[./])(new_|pixel_|image_|img_)?((?P<mean>mean|mu)|(std|sigma))(_tensor)?$"
)
#: The entry of a safetensors header in which our own bundles describe themselves.
BUNDLE = "resnetkit"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Identification:
    """A file understood: the container, the reading of its names, and what its numbers show.

    ``described`` is the network of a bundle's header, which leaves nothing open, else None.
    ``classes`` are the names of the classes that a configuration beside the file tells, if any.
    """

    container: Container
    reading: Reading
    described: Network | None
    warnings: tuple[str, ...]
    classes: tuple[str, ...] | None = None

    @property
    def network(self) -> Network:
        """The network, with documented defaults where the file cannot tell."""
        return self.described or self.reading.network

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON types."""
        reading, network = self.reading, self.network
        known = {
            option: {"value": getattr(network.options, option), "from": source}
            for option, source in reading.known.items()
        }
        ambiguous = [] if self.described else [asdict(fact) for fact in reading.ambiguous]
        if self.described:
            header = "the bundle's header"
            options = network.options.to_dict()
            known = {name: {"value": value, "from": header} for name, value in options.items()}
        elif reading.choices:
            first = reading.choices[0]
            known["preprocess"] = {"value": first.label, "from": first.source}
        return {
            "file": str(self.container.path),
            "container": self.container.kind,
            "wrapper": [
                {"name": name, "meaning": WRAPPERS.get(name, "not known")}
                for name in reading.wrappers
            ],
            "dialect": reading.dialect.name,
            "also": list(reading.also),
            "network": network.name,
            "about": network.about,
            "parameters": network.parameters,
            "num_classes": network.options.num_classes,
            "class_names": None if self.classes is None else list(self.classes),
            "head": reading.head,
            "in_chans": network.options.in_chans,
            "known": known,
            "assumed": {fact["fact"]: fact["default"] for fact in ambiguous},
            "ambiguous": ambiguous,
            "preprocess": [
                {
                    "label": choice.label,
                    "source": choice.source,
                    **choice.preprocess.to_dict(),
                }
                for choice in reading.preprocess
            ],
            "leftover": list(reading.leftover),
            "ignored": dict(reading.ignored),
            "missing": list(reading.problems()),
            "warnings": list(self.warnings),
        }

    def to_json(self) -> str:
        """``to_dict`` as text."""
        return json.dumps(self.to_dict(), indent=2)


def identify(
    file: str | Path | Container,
    *,
    prefix: str | None = None,
    ema: bool | None = None,
    head: str | None = None,
) -> Identification:
    """Say what a file is, by its path or opened already.

    A ``config.json`` and a ``preprocessor_config.json`` beside the file are read for what timm and
    transformers write there. ``prefix`` chooses one of several networks in a file; of weights and
    their average over training, the average is read, unless ``ema`` is False. ``head`` names the
    linear layer that is the classifier, where its name does not tell. Raises ``InputError``
    for a file that cannot be read, in which no ResNet is found, whose configuration is of another
    network, or, with ``ema``, in which there is no average.

    >>> found = resnetkit.identify("theirs.pth")
    >>> found.reading.dialect.name, found.reading.network.name
    ('torchvision', 'resnet18')
    """
    container = file if isinstance(file, Container) else open_container(file)
    configuration = None if is_bundle(container) else beside(container.path)
    told: tuple[str, ...] = ()
    try:
        if container.kind == "onnx":
            # Of no other file is anything of it needed, and identifying is to be quick.
            from resnetkit.checkpoints.onnx_graph.graph_checkpoint import read_graph

            container, reading, told = read_graph(container)
            _check_unwrapped(prefix, ema)
            reading = _prepared(reading, configuration)
        else:
            container, reading, told = _read(container, configuration, prefix=prefix, ema=ema)
            reading = with_classifier(with_settings(container, reading), head)
            reading = _normalised(container, reading)
    except InputError as error:
        raise error.behind(f"{container.path}: ") from None
    return Identification(
        container=container,
        reading=reading,
        described=_described(container),
        warnings=(*told, *_warnings(container, reading, configuration)),
        classes=_classes(reading, configuration),
    )


def _read(
    container: Container, beside: Configuration | None, *, prefix: str | None, ema: bool | None
) -> tuple[Container, Reading, tuple[str, ...]]:
    """The reading, of a container with names in the usual spelling; and what there is to tell."""
    config = None if beside is None else beside.model
    container, told = respelled(container)
    refused: InputError | None = None
    try:
        found = _recognised(container, config, prefix=prefix, ema=ema)
        if not found.problems():
            return container, _prepared(found, beside), told
    except InputError as error:
        refused = error
    peeled = without_inner_wrappers(container)
    if peeled is not None:
        try:
            bare = _recognised(peeled, config, prefix=prefix, ema=ema)
        except InputError:
            bare = None
        if bare is not None and (refused is not None or not bare.problems()):
            text = "wrappers of single modules are left out of the names"
            return peeled, _prepared(bare, beside), (*told, text)
    if refused is not None:
        raise refused
    return container, _prepared(found, beside), told


def _normalised(container: Container, reading: Reading) -> Reading:
    """With the mean and deviation that a layer in the file takes off images, if it has one.

    Such a layer (robustness' InputNormalize, and the first module of many attacks' models) has a
    number for each channel, below a name that says so.
    """
    channels = reading.network.options.in_chans
    if not reading.preprocess:
        return reading
    found: dict[str, list[str]] = {"mean": [], "std": []}
    for name in reading.outside:
        match = _NORMALISER.search(name)
        shape = tuple(size for size in reading.shapes[name] if size != 1)
        if match and shape == ((channels,) if channels > 1 else ()):
            found["mean" if match["mean"] else "std"].append(name)
    if not found["mean"] or len(found["mean"]) != len(found["std"]):
        return reading
    values = {}
    for part, names in found.items():
        each = {tuple(container.read(n).astype("float64").reshape(-1).tolist()) for n in names}
        if len(each) > 1:
            return reading  # several that differ: none is known to be this network's
        (values[part],) = each
    if not all(map(math.isfinite, values["mean"])) or min(values["std"]) <= 0:
        return reading
    first = reading.preprocess[0]
    whole = max(values["mean"]) > 2  # of pixels in 0..255
    order = first.preprocess.channels
    if whole and values["mean"] == tuple(sorted(values["mean"])) and order == "RGB":
        order = "BGR"  # of all photographs blue is the darkest channel, and red the brightest
    divisor = 1.0 if whole else 255.0
    told = replace(
        first.preprocess,
        channels=order,
        divisor=divisor,
        mean=values["mean"],
        std=values["std"],
    )
    layers = f"{found['mean'][0]}, {found['std'][0]}"
    source = f"{layers}; its size as in {first.label}"
    used = {*found["mean"], *found["std"]}
    choice = DialectPreprocess(label="the file's own", preprocess=told, source=source)
    return replace(
        reading,
        choices=(choice,),
        ambiguous=tuple(fact for fact in reading.ambiguous if fact.fact != "preprocess"),
        ignored={**reading.ignored, **dict.fromkeys(used, "prepares images, and is used for it")},
        leftover=tuple(name for name in reading.leftover if name not in used),
    )


def _check_unwrapped(prefix: str | None, ema: bool | None) -> None:
    if prefix is not None or ema is not None:
        raise InputError(
            "a graph is one network, without wrappers; leave prefix and ema out",
            field=("prefix", "ema"),
        )


def _prepared(reading: Reading, beside: Configuration | None) -> Reading:
    """With the preprocessing that a configuration tells, if it tells any."""
    if beside is None or not beside.preprocess:
        return reading
    still_open = tuple(fact for fact in reading.ambiguous if fact.fact != "preprocess")
    return replace(reading, choices=beside.preprocess, ambiguous=still_open)


def _recognised(
    container: Container, config: Mapping[str, Any] | None, *, prefix: str | None, ema: bool | None
) -> Reading:
    shapes = {name: info.shape for name, info in container.arrays.items()}

    def same(one: str, other: str) -> bool:
        if container.arrays[one].dtype != container.arrays[other].dtype:
            return False
        return bool(container.read(one).tobytes() == container.read(other).tobytes())

    reading = read(shapes, config=config, prefix=prefix, same=same)
    if ema is False and averaged(reading):
        rest = {n: s for n, s in shapes.items() if not n.startswith(reading.prefix)}
        return read(rest, config=config)
    if ema and not averaged(reading):
        raise InputError(
            "there is no average of the weights over training; leave ema out", field="ema"
        )
    return reading


def is_bundle(container: Container) -> bool:
    """Whether the file is one of our own, which describes itself."""
    return container.kind == "safetensors" and BUNDLE in container.facts.get("metadata", {})


def averaged(reading: Reading) -> bool:
    """Whether these are an average of the weights over training."""
    return bool(AVERAGES & set(reading.wrappers))


def _classes(reading: Reading, beside: Configuration | None) -> tuple[str, ...] | None:
    """The names of a configuration, where there is one for each class."""
    if beside is None or beside.classes is None or reading.head != "classifier":
        return None
    return beside.classes if len(beside.classes) == reading.network.options.num_classes else None


def _described(container: Container) -> Network | None:
    """The network that the header of one of our bundles describes."""
    if not is_bundle(container):
        return None
    try:
        document = parsed(container.facts["metadata"][BUNDLE], "its header")
        return Network.from_dict(document["network"])
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{container.path} has a bundle's header that cannot be understood; get it again, "
            "or update resnetkit if it is of a newer one"
        ) from None


def _warnings(container: Container, reading: Reading, beside: Configuration | None) -> list[str]:
    """What the numbers show: kinds of numbers, statistics that are fresh, numbers that are none."""
    found = [] if beside is None else list(beside.warnings)
    named = beside.classes if beside is not None and reading.head == "classifier" else None
    if named is not None and len(named) != reading.network.options.num_classes:
        found.append(f"config.json names {len(named)} classes and the tensors have another number")
    kinds = Counter(
        container.arrays[theirs].dtype
        for ours, theirs in reading.names.items()
        if not ours.endswith("num_batches_tracked")
    )
    if set(kinds) != {"float32"}:
        text = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        found.append(f"the tensors are {text}")
    if container.quantised & set(reading.names.values()):
        found.append(
            f"{len(container.quantised)} tensors are quantised, and are made of whole numbers and "
            "scales again; the file's own network rounds what its layers put out too, so that its "
            "answers differ by some per cent"
        )
    if "fc.bias" in reading.created:
        found.append("the classifier has no bias, and 0 is taken for it")
    if reading.head == "other" and reading.network.options.num_classes is not None:
        found.append("the fully connected layer projects, it does not classify")
    fresh, broken, odd = _norms(container, reading)
    if fresh:
        found.append(
            f"all {fresh} norms have running mean 0 and variance 1: the network looks fresh, or "
            "its statistics were lost"
        )
    if broken:
        found.append(
            f"{len(broken)} norms have statistics that are not finite or negative: {broken[0]}"
        )
    if odd:
        found.append(
            f"{len(odd)} norms have a scale or bias that is NaN or infinite: {odd[0]}; other "
            "weights are looked at when the file is converted"
        )
    return found


def _norms(container: Container, reading: Reading) -> tuple[int, list[str], list[str]]:
    """How many batch norms are all fresh (0 where one is not), which have broken statistics, and
    which tensors of scales and biases are not finite: training that diverged leaves none that is.
    """
    fresh, count = True, 0
    broken: list[str] = []
    odd: list[str] = []
    for located in reading.network.layers():
        if not isinstance(located.layer, Norm):
            continue
        for name in ("weight", "bias"):
            theirs = reading.names.get(f"{located.path}.{name}")
            if theirs is not None and not _is_finite(container.read(theirs)):
                odd.append(theirs)
        mean, variance = (
            reading.names.get(f"{located.path}.{name}") for name in ("running_mean", "running_var")
        )
        if mean is None or variance is None:
            fresh = fresh and located.layer.groups is not None
            continue
        count += 1
        means, variances = container.read(mean), container.read(variance)
        fresh = fresh and not means.any() and bool((variances == 1).all())
        if not (_is_finite(means) and _is_finite(variances)) or float(variances.min()) < 0:
            broken.append(mean)
    return (count if fresh else 0), broken, odd


def _is_finite(array: Array) -> bool:
    """Whether all numbers are, by their sum."""
    return math.isfinite(float(array.sum(dtype="float64")))

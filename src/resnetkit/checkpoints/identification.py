"""Identifies a weight file: framework, network, and ambiguous facts.

Reads the names and shapes of all arrays, and the values of the norms. Does not import torch.
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
from resnetkit.display import Displayed
from resnetkit.errors import InputError, parsed
from resnetkit.formats.opening import Container, open_container

if TYPE_CHECKING:
    from resnetkit.checkpoints.dialect import Array

#: Wrappers of averaged weights.
AVERAGES = {"state_dict_ema", "model_ema", "ema"}
#: The names of mean and standard deviation of a normalisation layer.
_NORMALISER = re.compile(
    r"(^|[./])(new_|pixel_|image_|img_)?((?P<mean>mean|mu)|(std|sigma))(_tensor)?$"
)
#: The safetensors header entry with a bundle's description.
BUNDLE = "resnetkit"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Identification(Displayed):
    """An identified file: the container, the reading of its names, and findings about its values.

    ``described`` is the network of a bundle's header, which leaves nothing open, else None.
    ``classes`` are the class names of a configuration beside the file, if any.
    """

    container: Container
    reading: Reading
    described: Network | None
    warnings: tuple[str, ...]
    classes: tuple[str, ...] | None = None

    @property
    def network(self) -> Network:
        """The network, with documented defaults for open facts."""
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
    """Identify a file, given as a path or opened.

    timm's and transformers' ``config.json`` and ``preprocessor_config.json`` beside the file are
    read. ``prefix`` selects one of several networks in a file; averaged weights are preferred to
    raw ones, unless ``ema`` is False. ``head`` names the classifier's linear layer if its name is
    not recognised. Raises ``InputError`` for an unreadable file, one without a ResNet, a
    configuration of another network, and, with ``ema``, a file without averaged weights.

    >>> found = resnetkit.identify("theirs.pth")
    >>> found.reading.dialect.name, found.reading.network.name
    ('torchvision', 'resnet18')
    """
    container = file if isinstance(file, Container) else open_container(file)
    configuration = None if is_bundle(container) else beside(container.path)
    notes: tuple[str, ...] = ()
    try:
        if container.kind == "onnx":
            # Other files do not need it, and identification should be fast.
            from resnetkit.checkpoints.onnx_graph.graph_checkpoint import read_graph

            container, reading, notes = read_graph(container)
            _check_unwrapped(prefix, ema)
            reading = _prepared(reading, configuration)
        else:
            container, reading, notes = _read(container, configuration, prefix=prefix, ema=ema)
            reading = with_classifier(with_settings(container, reading), head)
            reading = _normalised(container, reading)
    except InputError as error:
        raise error.behind(f"{container.path}: ") from None
    return Identification(
        container=container,
        reading=reading,
        described=_described(container),
        warnings=(*notes, *_warnings(container, reading, configuration)),
        classes=_classes(reading, configuration),
    )


def _read(
    container: Container, beside: Configuration | None, *, prefix: str | None, ema: bool | None
) -> tuple[Container, Reading, tuple[str, ...]]:
    """The reading of a container with normalised names, and messages about it."""
    config = None if beside is None else beside.model
    container, notes = respelled(container)
    refused: InputError | None = None
    try:
        found = _recognised(container, config, prefix=prefix, ema=ema)
        if not found.problems():
            return container, _prepared(found, beside), notes
    except InputError as error:
        refused = error
    peeled = without_inner_wrappers(container)
    if peeled is not None:
        try:
            bare = _recognised(peeled, config, prefix=prefix, ema=ema)
        except InputError:
            bare = None
        if bare is not None and (refused is not None or not bare.problems()):
            text = "wrappers of single modules are removed from the names"
            return peeled, _prepared(bare, beside), (*notes, text)
    if refused is not None:
        raise refused
    return container, _prepared(found, beside), notes


def _normalised(container: Container, reading: Reading) -> Reading:
    """Add the mean and standard deviation of a normalisation layer in the file, if any.

    Such a layer (robustness' InputNormalize, and the first module of many attack models) has one
    value per channel, under a characteristic name.
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
            return reading  # several that differ: unknown which is this network's
        (values[part],) = each
    if not all(map(math.isfinite, values["mean"])) or min(values["std"]) <= 0:
        return reading
    first = reading.preprocess[0]
    whole = max(values["mean"]) > 2  # for pixels in 0..255
    order = first.preprocess.channels
    if whole and values["mean"] == tuple(sorted(values["mean"])) and order == "RGB":
        order = (
            "BGR"  # in photographs blue is on average the darkest channel, and red the brightest
        )
    divisor = 1.0 if whole else 255.0
    stated = replace(
        first.preprocess,
        channels=order,
        divisor=divisor,
        mean=values["mean"],
        std=values["std"],
    )
    layers = f"{found['mean'][0]}, {found['std'][0]}"
    source = f"{layers}; its size as in {first.label}"
    used = {*found["mean"], *found["std"]}
    choice = DialectPreprocess(label="the file's own", preprocess=stated, source=source)
    return replace(
        reading,
        choices=(choice,),
        ambiguous=tuple(fact for fact in reading.ambiguous if fact.fact != "preprocess"),
        ignored={**reading.ignored, **dict.fromkeys(used, "normalises images, and is used")},
        leftover=tuple(name for name in reading.leftover if name not in used),
    )


def _check_unwrapped(prefix: str | None, ema: bool | None) -> None:
    if prefix is not None or ema is not None:
        raise InputError(
            "a graph is one network, without wrappers; leave prefix and ema out",
            field=("prefix", "ema"),
        )


def _prepared(reading: Reading, beside: Configuration | None) -> Reading:
    """Add the preprocessing of a configuration, if it has any."""
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
        raise InputError("there are no averaged weights; leave ema out", field="ema")
    return reading


def is_bundle(container: Container) -> bool:
    """Whether the file is a bundle."""
    return container.kind == "safetensors" and BUNDLE in container.facts.get("metadata", {})


def averaged(reading: Reading) -> bool:
    """Whether these are averaged weights."""
    return bool(AVERAGES & set(reading.wrappers))


def _classes(reading: Reading, beside: Configuration | None) -> tuple[str, ...] | None:
    """The class names of a configuration, if there is one for each class."""
    if beside is None or beside.classes is None or reading.head != "classifier":
        return None
    return beside.classes if len(beside.classes) == reading.network.options.num_classes else None


def _described(container: Container) -> Network | None:
    """The network in a bundle's header."""
    if not is_bundle(container):
        return None
    try:
        document = parsed(container.facts["metadata"][BUNDLE], "its header")
        return Network.from_dict(document["network"])
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{container.path} has an invalid bundle header; get it again, "
            "or update resnetkit if it was written by a newer version"
        ) from None


def _warnings(container: Container, reading: Reading, beside: Configuration | None) -> list[str]:
    """Findings about the values: dtypes, untrained statistics, non-finite values."""
    found = [] if beside is None else list(beside.warnings)
    named = beside.classes if beside is not None and reading.head == "classifier" else None
    if named is not None and len(named) != reading.network.options.num_classes:
        found.append(f"config.json names {len(named)} classes, but the tensors have another number")
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
            f"{len(container.quantised)} tensors are quantised; they are read as integers times "
            "scales, but the original network also rounds layer outputs, so that its "
            "outputs differ by some per cent"
        )
    if "fc.bias" in reading.created:
        found.append("the classifier has no bias; 0 is used")
    if reading.head == "other" and reading.network.options.num_classes is not None:
        found.append("the fully connected layer is a projection, not a classifier")
    fresh, broken, odd = _norms(container, reading)
    if fresh:
        found.append(
            f"all {fresh} norms have mean 0 and variance 1: the network looks untrained, or "
            "its statistics were lost"
        )
    if broken:
        found.append(
            f"{len(broken)} norms have statistics that are not finite or negative: {broken[0]}"
        )
    if odd:
        found.append(
            f"{len(odd)} norms have a scale or bias that is NaN or infinite: {odd[0]}; other "
            "weights are checked on conversion"
        )
    return found


def _norms(container: Container, reading: Reading) -> tuple[int, list[str], list[str]]:
    """The number of batch norms if all are untrained (else 0), those with broken statistics, and
    the non-finite scales and biases, typical of diverged training.
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
    """Whether all values are finite, by their sum."""
    return math.isfinite(float(array.sum(dtype="float64")))

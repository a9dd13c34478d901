"""What a file of weights is, as far as the file can tell; and what it cannot tell.

Reads the names and shapes of all arrays, and the numbers of the norms' statistics. Nothing here
imports torch.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resnetkit.architecture.layer import Norm
from resnetkit.architecture.network import Network
from resnetkit.checkpoints.container import Container, open_container
from resnetkit.checkpoints.reading import WRAPPERS, Reading
from resnetkit.checkpoints.recognition import read
from resnetkit.errors import InputError

#: Wrappers that hold an average of the weights over training.
AVERAGES = {"state_dict_ema", "model_ema", "ema"}
#: The entry of a safetensors header in which our own bundles describe themselves.
BUNDLE = "resnetkit"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Identification:
    """A file understood: the container, the reading of its names, and what its numbers show.

    ``described`` is the network of a bundle's header, which leaves nothing open, else None.
    """

    container: Container
    reading: Reading
    described: Network | None
    warnings: tuple[str, ...]

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
            "classes": network.options.classes,
            "head": reading.head,
            "input_channels": network.options.input_channels,
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
    path: str | Path, *, prefix: str | None = None, ema: bool | None = None
) -> Identification:
    """Say what the file at ``path`` is.

    A ``config.json`` beside the file is read for what its framework writes there. ``prefix``
    chooses one of several networks in a file; of weights and their average over training, the
    average is read, unless ``ema`` is False. Raises ``InputError`` for a file that cannot be
    read, in which no ResNet is found, or, with ``ema``, no average.
    """
    container = open_container(path)
    try:
        reading = _read(container, prefix=prefix, ema=ema)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return Identification(
        container=container,
        reading=reading,
        described=_described(container),
        warnings=tuple(_warnings(container, reading)),
    )


def _read(container: Container, *, prefix: str | None, ema: bool | None) -> Reading:
    config = _config(container.path)
    shapes = {name: info.shape for name, info in container.arrays.items()}
    reading = read(shapes, config=config, prefix=prefix)
    if ema is False and averaged(reading):
        rest = {n: s for n, s in shapes.items() if not n.startswith(reading.prefix)}
        return read(rest, config=config)
    if ema and not averaged(reading):
        raise InputError("there is no average of the weights over training; leave --ema out")
    return reading


def is_bundle(container: Container) -> bool:
    """Whether the file is one of our own, which describes itself."""
    return BUNDLE in container.facts.get("metadata", {})


def averaged(reading: Reading) -> bool:
    """Whether these are an average of the weights over training."""
    return bool(AVERAGES & set(reading.wrappers))


def _config(path: Path) -> Mapping[str, Any] | None:
    """The ``config.json`` beside a file, if it is one of a model."""
    beside = path.parent / "config.json"
    try:
        found = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "model_type" in found else None


def _described(container: Container) -> Network | None:
    """The network that the header of one of our bundles describes."""
    if not is_bundle(container):
        return None
    try:
        return Network.from_dict(json.loads(container.facts["metadata"][BUNDLE])["network"])
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{container.path} has a bundle's header that cannot be understood; get it again, "
            "or update resnetkit if it is of a newer one"
        ) from None


def _warnings(container: Container, reading: Reading) -> list[str]:
    """What the numbers show: kinds of numbers, statistics that are fresh, numbers that are none."""
    found = []
    kinds = Counter(
        container.arrays[theirs].dtype
        for ours, theirs in reading.names.items()
        if not ours.endswith("num_batches_tracked")
    )
    if set(kinds) != {"float32"}:
        text = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        found.append(f"the tensors are {text}")
    fresh, broken = _norms(container, reading)
    if fresh:
        found.append(
            f"all {fresh} norms have running mean 0 and variance 1: the network looks fresh, or "
            "its statistics were lost"
        )
    if broken:
        found.append(
            f"{len(broken)} norms have statistics that are not finite or negative: {broken[0]}"
        )
    return found


def _norms(container: Container, reading: Reading) -> tuple[int, list[str]]:
    """How many norms are all fresh (0 where one is not), and which are broken."""
    fresh, count = True, 0
    broken: list[str] = []
    for located in reading.network.layers():
        if not isinstance(located.layer, Norm):
            continue
        mean, variance = (
            reading.names.get(f"{located.path}.{name}") for name in ("running_mean", "running_var")
        )
        if mean is None or variance is None:
            return 0, broken
        count += 1
        means, variances = container.read(mean), container.read(variance)
        fresh = fresh and not means.any() and bool((variances == 1).all())
        total = float(means.sum(dtype="float64")) + float(variances.sum(dtype="float64"))
        if not math.isfinite(total) or float(variances.min()) < 0:
            broken.append(mean)
    return (count if fresh else 0), broken

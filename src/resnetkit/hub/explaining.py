"""Explains and compares networks given by name, as objects, or by the file that holds them.

Names and objects need no numpy; a file is read as ``load`` reads it, without its weights.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.architecture import comparison, explanation, registry
from resnetkit.architecture.comparison import Comparison
from resnetkit.architecture.explanation import Explanation, HasNetwork
from resnetkit.architecture.layer import Shape
from resnetkit.architecture.network import Network
from resnetkit.errors import AssumptionWarning, InputError, printable
from resnetkit.source import is_source

if TYPE_CHECKING:
    from resnetkit.preprocess import Preprocess

#: The weights of a run that stand for it.
BEST = "best.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """The network of a name, an object or a file, and what was assumed to know it.

    ``size`` is the side of the images that the file is for, or None; ``file`` its name, or "".
    """

    network: Network
    size: int | None = None
    file: str = ""
    assumed: tuple[str, ...] = ()

    def explain(self, input: int | Shape | None = None) -> Explanation:
        """The explanation at an input, by default the file's, else the network's own."""
        return explanation.explain(self.network, self.size if input is None else input)

    @property
    def name(self) -> str:
        """The file and its network's name, or without a file the network's name and changes."""
        if self.file:
            return f"{printable(self.file)} ({self.network.name})"
        return registry.title(self.network)


def explain(
    model: str | Path | Network | HasNetwork, input: int | Shape | None = None, **options: Any
) -> Explanation:
    """Explain a network at an input, by default of its usual size.

    ``input`` is a side, ``473``, a height and width, ``(480, 640)``, or a shape, ``(3, 480, 640)``.
    ``model`` is a name; a bundle, a checkpoint of any framework, an exported file, the folder of a
    run, or a source of ``load``; a network, or an object with one, as a bundle or a module. A name
    takes precedence over a file. Files and bundles are explained at the size of the images that
    they are for. What the tensors of a file do not show may be given in ``options``, and is else
    assumed as by ``load``, with an ``AssumptionWarning``.

    Raises ``ValueError`` for an unknown name or option, for conflicting options, for a file without
    a ResNet, and for an input so small that a map becomes empty.

    >>> resnetkit.explain("resnet50", 473).totals.parameters
    25557032
    >>> resnetkit.explain("theirs.pth").network.name
    'resnet18'
    """
    described = describe(model, **options)
    _warn(described)
    return described.explain(input)


def compare(
    first: str | Path | Network | HasNetwork,
    second: str | Path | Network | HasNetwork,
    input: int | Shape | None = None,
) -> Comparison:
    """Compare two networks, given as to ``explain``, at an input: options, numbers and layers.

    Weights are not compared. By default each network has its usual input; a network of no file is
    compared at the size of the file beside it.

    >>> resnetkit.compare("resnet50", "resnet50_v1").options
    {'stride_on': ('3x3', '1x1')}
    >>> resnetkit.compare("resnet18", "theirs.pth").identical
    True
    """
    sides = describe(first), describe(second)
    for side in sides:
        _warn(side)
    return compared(*sides, input)


def compared(first: Described, second: Described, input: int | Shape | None = None) -> Comparison:
    """The comparison of two networks; see ``compare``."""
    shape: int | Shape | None = input
    if input is None and (first.size is None or second.size is None):
        shape = first.size or second.size
    return comparison.Comparison(
        first.explain(shape), second.explain(shape), names=(first.name, second.name)
    )


def describe(model: str | Path | Network | HasNetwork, **options: Any) -> Described:
    """The network of a name, an object or a file; ``options`` are changed, or resolve open facts.

    Raises ``InputError`` for what is neither a name nor an existing file, and as ``load``.
    """
    if isinstance(model, Network):
        return Described(network=registry.network(model, **options))
    if not isinstance(model, str | Path):
        size = getattr(getattr(model, "preprocess", None), "size", None)  # a module has none
        return Described(network=registry.network(model.network, **options), size=size)
    if str(model) in registry.entries():
        return Described(network=registry.network(str(model), **options))
    if is_source(model):
        from resnetkit.hub.weights import load

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", AssumptionWarning)
            bundle = load(model)
        said = tuple(str(one.message) for one in caught)
        return _of_file(str(model), bundle.network, bundle.preprocess, options, said)
    path = Path(model)
    if not path.exists():
        _refuse(str(model))
    return _described(path, options)


def _refuse(name: str) -> None:
    """Raise the error for something that is neither a network's name nor a file."""
    if "/" in name or Path(name).suffix:
        raise InputError(
            f"{name} does not exist and is no network's name; give a name of "
            "resnetkit.list_models, a bundle, a checkpoint or the folder of a run"
        )
    registry.network(name)


def _described(path: Path, options: dict[str, Any]) -> Described:
    """The network of a file or of a run's folder."""
    # They import numpy, which names do not need.
    from resnetkit.bundle.bundle import document_of
    from resnetkit.bundle.opening import read_exported
    from resnetkit.checkpoints.classifier_head import left_out
    from resnetkit.checkpoints.identification import identify, is_bundle
    from resnetkit.formats.opening import open_container
    from resnetkit.hub.load_options import LoadOptions
    from resnetkit.hub.loading import left_names, preprocess_of, settled, spoken_lines
    from resnetkit.preprocess import Preprocess

    file = path / BEST if (path / BEST).is_file() else path
    if file.is_file() and (exported := read_exported(file)):
        return _of_file(str(path), exported.network, exported.preprocess, options)
    container = open_container(file)
    if is_bundle(container):
        document = document_of(container.path)
        try:
            network = Network.from_dict(document["network"])
            preprocess = Preprocess.from_dict(document["preprocess"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file} has an invalid header: {error}; get it again") from None
        return _of_file(str(path), network, preprocess, options)
    found = identify(container)
    unknown = {fact.fact for fact in found.reading.ambiguous}
    if options.get("norm") == "group":
        unknown.add("norm")  # which norms without statistics need to be told
    facts = {name: value for name, value in options.items() if name in unknown}
    reading, origin = settled(found, LoadOptions(facts=facts))
    left = left_out(left_names(reading, LoadOptions()), reading)
    return _of_file(
        str(path),
        reading.network,
        preprocess_of(reading, origin),
        {name: value for name, value in options.items() if name not in unknown},
        tuple(f"{path}: {line}" for line in spoken_lines({**origin, "warnings": left})),
    )


def _of_file(
    name: str,
    network: Network,
    preprocess: Preprocess,
    options: dict[str, Any],
    assumed: tuple[str, ...] = (),
) -> Described:
    """A file's network with ``options`` changed."""
    changed = registry.network(network, **options)
    return Described(network=changed, size=preprocess.size, file=name, assumed=assumed)


def _warn(described: Described) -> None:
    if described.assumed:
        warnings.warn("; ".join(described.assumed), AssumptionWarning, stacklevel=3)

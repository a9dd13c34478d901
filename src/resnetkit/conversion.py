"""From any checkpoint to a bundle, and from a bundle to any framework's names - with proof.

Total and strict: every tensor is used once and every shape is equal. What the tensors do not show
has to be told, or to be assumed in so many words; both are written into the bundle's origin.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor

from resnetkit.architecture.options import option_names
from resnetkit.bundle import Bundle
from resnetkit.bundle import load as load_bundle
from resnetkit.checkpoints.container import Container, open_container
from resnetkit.checkpoints.dialect import Dialect
from resnetkit.checkpoints.identification import Identification, averaged, identify, is_bundle
from resnetkit.checkpoints.reading import Ambiguity, Reading
from resnetkit.checkpoints.recognition import dialect
from resnetkit.errors import InputError
from resnetkit.files import atomic
from resnetkit.module.build import ResNet
from resnetkit.preprocess import Preprocess

#: The target that is our own file.
BUNDLE = "bundle"
#: Endings of the files that are written.
SUFFIXES = (".safetensors", ".pth", ".pt", ".pkl")
#: Images of the proof.
IMAGES = 4

Array = npt.NDArray[Any]
#: Answers what a file cannot tell with one of the candidates.
Ask = Callable[[Ambiguity], Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Converted:
    """A conversion and its proof: the file read back and run beside the input's network.

    ``difference`` is the largest absolute difference of the logits (of the pooled maps, where
    there is no classifier) over ``images`` images, ``largest`` the largest logit.
    """

    source: Path
    target: Path
    dialect: str
    bundle: Bundle
    tensors: int
    images: int
    difference: float
    largest: float

    def to_dict(self) -> dict[str, Any]:
        """The conversion as JSON types."""
        return {
            "source": str(self.source),
            "target": str(self.target),
            "to": self.dialect,
            "network": self.bundle.network.name,
            "tensors": self.tensors,
            "origin": dict(self.bundle.origin),
            "proof": {
                "images": self.images,
                "difference": self.difference,
                "largest": self.largest,
            },
        }


class _Arrays(Mapping[str, Array]):
    """The arrays of a container, each read when it is asked for."""

    def __init__(self, container: Container) -> None:
        self._container = container

    def __getitem__(self, name: str) -> Array:
        return self._container.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._container.arrays)

    def __len__(self) -> int:
        return len(self._container.arrays)


def load(
    path: str | Path,
    *,
    assume: bool = False,
    prefix: str | None = None,
    ema: bool | None = None,
    drop: Sequence[str] = (),
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
    names leftovers (or beginnings of them) to do without; ``classes`` puts a new, untrained
    classifier in the place of the old one.

    Raises ``ValueError`` for a file that cannot be read, in which no ResNet is found, whose tensors
    are not exactly those of the network, and for facts that stay open.
    """
    if is_bundle(open_container(path)):
        told = {**facts, "prefix": prefix, "ema": ema, "preprocess": preprocess, "drop": drop}
        _check_untold(path, told)
        bundle = load_bundle(path)
        return bundle if classes is None else _with_new_head(bundle, classes)
    found = identify(path, prefix=prefix, ema=ema)
    if ema is None and prefix is None and averaged(found.reading) and found.reading.ignored:
        raise InputError(
            f"{path} has weights and their average over training; choose with --ema or --no-ema"
        )
    reading, origin = _settled(found, facts, preprocess, assume, ask)
    bundle = Bundle(
        network=reading.network,
        arrays={
            name: _tensor(array)
            for name, array in reading.to_ours(_Arrays(found.container), drop).items()
        },
        preprocess=_preprocess(reading, origin, preprocess),
        classes=_numbered(reading.network.options.classes),
        origin={**origin, "dropped": list(drop)},
    )
    return bundle if classes is None else _with_new_head(bundle, classes)


def _check_untold(path: str | Path, told: Mapping[str, Any]) -> None:
    """A bundle says all of itself; what is told besides would be ignored."""
    given = [name for name, value in told.items() if value not in (None, (), [])]
    if given:
        raise InputError(
            f"{path} is a bundle, which says all of this itself; leave out {', '.join(given)}"
        )


def _with_new_head(bundle: Bundle, classes: int) -> Bundle:
    """The bundle with an untrained classifier in the place of the old one, if it had any."""
    network = bundle.network.override(classes=classes)
    fresh = ResNet(network).get_submodule("fc").state_dict()
    return replace(
        bundle,
        network=network,
        arrays={**bundle.arrays, **{f"fc.{name}": value for name, value in fresh.items()}},
        classes=_numbered(classes),
        origin={**bundle.origin, "new_head": True},
        measured={},
    )


def _numbered(classes: int | None) -> tuple[str, ...]:
    """Class names where a file has none."""
    return tuple(str(number) for number in range(classes or 0))


def convert(bundle: Bundle, source: Path, target: Path, to: str) -> Converted:
    """Write ``bundle`` to ``target`` in the dialect ``to``, read it back and run both.

    Raises ``ValueError`` for a network that the framework cannot hold, for an ending that is not
    written, and where the file read back is not the same network.
    """
    if to == BUNDLE:
        names = set(bundle.arrays)
        write: Callable[[Bundle, Path], None] = _write_bundle
        read_back: Callable[[Bundle, Path], Bundle] = _read_bundle
    else:
        spoken = dialect(to)
        if spoken.sizes_first:
            raise InputError(
                f"{to} keeps its weights in HDF5 files, which are read and not written yet; "
                "convert to another dialect"
            )
        theirs = spoken.write(bundle.network, {k: _array(v) for k, v in bundle.arrays.items()})
        names, read_back = set(theirs), _read_checkpoint
        write = partial(_write_checkpoint, theirs=theirs, spoken=spoken)
    write(bundle, target)
    difference, largest = _proof(bundle, read_back(bundle, target))
    proof = {"images": IMAGES, "difference": difference, "largest": largest}
    bundle = replace(bundle, origin={**bundle.origin, "converted_to": to, "proof": proof})
    if target.suffix.lower() == ".safetensors":
        write(bundle, target)  # once more, for now its header can carry the proof
    return Converted(
        source=source,
        target=target,
        dialect=to,
        bundle=bundle,
        tensors=len(names),
        images=IMAGES,
        difference=difference,
        largest=largest,
    )


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


def _tensor(array: Array) -> Tensor:
    """A torch tensor of an array; bfloat16 is not numpy's own and goes over as its bits."""
    array = np.asarray(array, order="C")
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _array(tensor: Tensor) -> Array:
    if tensor.dtype is torch.bfloat16:
        import ml_dtypes

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _write_bundle(bundle: Bundle, target: Path) -> None:
    if target.suffix.lower() != ".safetensors":
        raise InputError(f"{target} is to be a bundle; give a name that ends in .safetensors")
    bundle.save(target)


def _read_bundle(_: Bundle, target: Path) -> Bundle:
    return load_bundle(target)


def _write_checkpoint(
    bundle: Bundle, target: Path, *, theirs: Mapping[str, Array], spoken: Dialect
) -> None:
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{target} ends in {suffix!r}; written are {', '.join(SUFFIXES)}")
    with atomic(target) as temporary:
        if suffix == ".safetensors":
            tensors = {name: _tensor(array) for name, array in theirs.items()}
            metadata = {"format": "pt", "origin": json.dumps(dict(bundle.origin))}
            safetensors.torch.save_file(tensors, temporary, metadata)
        elif suffix == ".pkl":
            # As detectron2 and Caffe2 keep them: arrays under one key.
            arrays = {name: np.asarray(array, order="C") for name, array in theirs.items()}
            key = "blobs" if spoken.folds else "model"
            temporary.write_bytes(pickle.dumps({key: arrays}, protocol=4))
        else:
            torch.save({name: _tensor(array) for name, array in theirs.items()}, temporary)


def _read_checkpoint(bundle: Bundle, target: Path) -> Bundle:
    """The written file as a bundle, with the options that the input had."""
    options = bundle.network.options
    facts = {name: getattr(options, name) for name in option_names() if name != "classes"}
    return load(target, preprocess=bundle.preprocess, **facts)


@torch.inference_mode()
def _proof(one: Bundle, other: Bundle) -> tuple[float, float]:
    """The largest difference of the two networks' answers, and the largest answer, in float32."""
    size = one.preprocess.size
    generator = torch.Generator().manual_seed(0)
    shape = (IMAGES, one.network.options.input_channels, size, size)
    images = torch.randn(shape, generator=generator)
    first, second = (bundle.module().float()(images) for bundle in (one, other))
    return float((first - second).abs().max()), float(first.abs().max())

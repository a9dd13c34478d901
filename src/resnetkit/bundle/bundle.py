"""Bundles: network, weights, preprocessing and class names in one ``.safetensors`` file.

The header's metadata has everything that is not a tensor: ``resnetkit`` is a JSON document with the
format version, network, preprocessing, class names, origin and measurements; ``resnetkit.sha256``
is the digest of that document and of every tensor, to detect modified files.

torch is imported only when a tensor or a module is requested.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from resnetkit import source
from resnetkit.architecture.network import Network
from resnetkit.architecture.parameters import tensors
from resnetkit.architecture.shape_inference import walk
from resnetkit.checkpoints.recognition import dialect as dialect_named
from resnetkit.checkpoints.writing import Tensors, array
from resnetkit.display import Displayed
from resnetkit.errors import (
    NO_CLASSES,
    InputError,
    check,
    listed,
    mapping,
    parsed,
    require,
    text,
    whole,
)
from resnetkit.files import atomic
from resnetkit.formats import safetensors, safetensors_writer
from resnetkit.formats.container import UnfitError
from resnetkit.inference.engines.engine import Engine, EngineName
from resnetkit.inference.engines.selection import open_engine
from resnetkit.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import Tensor, nn

    from resnetkit.bundle.pushed import Pushed
    from resnetkit.bundle.verified_write import DialectFile
    from resnetkit.inference.prediction import Image, Prediction
    from resnetkit.nn.resnet import ResNet

#: The format version that is written, and the newest that is read.
VERSION = 1
DOCUMENT, DIGEST = "resnetkit", "resnetkit.sha256"
#: Fields of a bundle's document besides its version, shared with exported files.
RULES = {
    **dict.fromkeys(("network", "preprocess", "origin", "measured"), mapping()),
    "classes": listed(text(), 1_000_000),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Bundle(Displayed):
    """Network, weights, preprocessing, class names, origin and measured accuracy.

    ``arrays`` are the tensors by the parameter names of ``resnetkit.build``, ``numbers`` the same
    as numpy arrays. ``origin`` records the source of the weights and ``measured`` their metrics;
    both are JSON objects.

    Raises ``ValueError`` for inconsistent parts.
    """

    network: Network
    arrays: Mapping[str, Tensor]
    preprocess: Preprocess
    classes: tuple[str, ...]
    origin: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_arrays(self.network, self.arrays)
        wanted = self.network.options.num_classes or 0
        if len(self.classes) != wanted:
            raise InputError(
                f"{len(self.classes)} class names for a network with {wanted} classes; "
                f"give {wanted} names"
            )
        if len(set(self.classes)) != len(self.classes):
            twice = next(name for name in self.classes if self.classes.count(name) > 1)
            raise InputError(f"the class name {twice!r} occurs twice; give unique names")
        channels, size = self.network.options.in_chans, self.preprocess.size
        if self.preprocess.channel_count != channels:
            raise InputError(
                f"the preprocessing makes {self.preprocess.channel_count} channels "
                f"({self.preprocess.channels}) and the network takes {channels}"
            )
        problem = walk(self.network, (channels, size, size)).problem
        if problem is not None:
            raise InputError(f"the preprocessing makes {size}x{size} pixels, and {problem}")

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        *,
        preprocess: Preprocess | None = None,
        classes: Sequence[str] | None = None,
        origin: Mapping[str, Any] | None = None,
        measured: Mapping[str, Any] | None = None,
    ) -> Bundle:
        """The bundle of a module made by ``resnetkit.build``; its weights are copied to the CPU.

        ``preprocess`` defaults to the network's default size with torchvision's ImageNet mean and
        standard deviation, ``classes`` to ``0``, ``1``, ... Raises ``ValueError`` for any other
        module and for inconsistent parts.
        """
        from resnetkit.nn.resnet import ResNet

        if not isinstance(module, ResNet):
            raise InputError(
                f"a bundle requires a module of resnetkit.build, and this is a "
                f"{type(module).__name__}; build one and load its state_dict"
            )
        network = module.network
        if classes is None:
            classes = tuple(str(number) for number in range(network.options.num_classes or 0))
        state = module.state_dict()
        return cls(
            network=network,
            arrays={k: v.detach().cpu().clone().contiguous() for k, v in state.items()},
            preprocess=preprocess or Preprocess(size=network.input_size),
            classes=tuple(classes),
            origin=dict(origin or {}),
            measured=dict(measured or {}),
        )

    def module(self) -> ResNet:
        """Return a new torch module with these weights, in evaluation mode, on the CPU."""
        torch = require("torch", "a torch module")

        from resnetkit.nn.resnet import ResNet

        with torch.device("meta"):
            module = ResNet(self.network)
        module.load_state_dict({k: v.clone() for k, v in self.arrays.items()}, assign=True)
        return module.eval()

    def with_new_head(self, classes: Sequence[str], *, seed: int = 0) -> Bundle:
        """Return this bundle with an untrained classifier for ``classes``, initialised by ``seed``.

        Metrics of the old classifier are dropped. Raises ``ValueError`` if there are no classes.
        """
        torch = require("torch", "a new classifier")
        from resnetkit.nn.resnet import ResNet

        network = self.network.override(num_classes=len(classes))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = ResNet(network).get_submodule("fc").state_dict()
        # Batch counters are integers, and may come first.
        dtype = next(v.dtype for v in self.arrays.values() if v.is_floating_point())
        return replace(
            self,
            network=network,
            arrays={
                **self.arrays,
                **{f"fc.{name}": value.to(dtype) for name, value in fresh.items()},
            },
            classes=tuple(classes),
            origin={**self.origin, "new_head": True},
            measured={},
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the document and of every tensor, computed on first access."""
        if self not in _DIGESTS:
            _DIGESTS[self] = digest_of(self.document(), self.numbers)
        return _DIGESTS[self]

    @property
    def numbers(self) -> Mapping[str, npt.NDArray[Any]]:
        """The tensors as numpy arrays sharing memory; bfloat16 is that of ml_dtypes."""
        if isinstance(self.arrays, Tensors):
            return self.arrays.numbers
        return {name: array(tensor) for name, tensor in self.arrays.items()}

    def predict(
        self, images: Image | Sequence[Image], topk: int = 5, *, engine: EngineName = "auto"
    ) -> list[Prediction]:
        """The ``topk`` classes of each image, best first; see ``inference.prediction.predict``.

        ``engine`` is as in ``inference.engines.selection.open_engine``; it is cached in the bundle.
        """
        from resnetkit.inference.prediction import predict

        if not self.classes:
            raise InputError(f"the network {NO_CLASSES}")
        kept = _ENGINES.setdefault(self, {})
        if engine not in kept:
            kept[engine] = open_engine(self, engine)
        return predict(kept[engine], self.preprocess, self.classes, images, topk=topk)

    def with_measured(self, **measured: Any) -> Bundle:
        """Return this bundle with metrics added."""
        return replace(self, measured={**self.measured, **measured})

    def document(self) -> str:
        """Everything that is not a tensor, as JSON, for the file's header."""
        return json.dumps(
            {
                "version": VERSION,
                "network": self.network.to_dict(),
                "preprocess": self.preprocess.to_dict(),
                "classes": list(self.classes),
                "origin": dict(self.origin),
                "measured": dict(self.measured),
            }
        )

    def metadata(self) -> dict[str, str]:
        """The header's entries: the document, and the digest of it and of every tensor."""
        document = self.document()
        # Without ``format``, transformers before version 5 refuses the file.
        return {"format": "pt", DOCUMENT: document, DIGEST: digest_of(document, self.numbers)}

    def file_of(self, target: Path, dialect: str) -> DialectFile:
        """This bundle as a file of another framework, to be written to ``target``."""
        from resnetkit.bundle.verified_write import DialectFile

        return DialectFile(
            target,
            dialect_named(dialect),
            network=self.network,
            arrays=self.numbers,
            origin=self.origin,
        )

    def push_to_hub(self, repo_id: str, **options: Any) -> Pushed:
        """Push this bundle to the Hugging Face Hub; see ``resnetkit.push_to_hub``."""
        pushed: Pushed = source.function("push_to_hub")(self, repo_id, **options)
        return pushed

    def save(self, path: str | Path, *, dialect: str | None = None) -> None:
        """Write the bundle, or with ``dialect`` another framework's file, atomically.

        A framework's file is read back and verified as by ``resnetkit.convert`` before it is
        renamed. Raises ``ValueError`` if it cannot be written or its outputs differ.
        """
        if dialect is not None:
            from resnetkit.bundle.verified_write import deliver

            deliver(
                self.file_of(Path(path), dialect),
                Path(path),
                dialect,
                network=self.network,
                arrays=self.numbers,
                origin=self.origin,
                size=self.preprocess.size,
            )
            return
        metadata = self.metadata()
        with atomic(path) as temporary:
            safetensors_writer.write(temporary, self.numbers, metadata)


#: The engines of ``Bundle.predict``, by name.
_ENGINES: WeakKeyDictionary[Bundle, dict[str, Engine]] = WeakKeyDictionary()
_DIGESTS: WeakKeyDictionary[Bundle, str] = WeakKeyDictionary()


def load(path: str | Path) -> Bundle:
    """Read a bundle.

    Raises ``ValueError`` for a file that is missing, truncated, modified, not a bundle, or in a
    newer version of the format.
    """
    path = Path(path)
    if not path.is_file():
        if path.is_dir():
            raise InputError(
                f"{path} is a folder; give a bundle, e.g. RUN/best.safetensors, or convert a "
                "checkpoint folder with resnetkit.convert"
            )
        raise InputError(f"{path} does not exist; give a bundle, e.g. RUN/best.safetensors")
    if not _is_safetensors(path):
        raise InputError(
            f"{path} is not a bundle (a .safetensors file); convert another framework's "
            "file with resnetkit.convert, or download a bundle again"
        )
    try:
        file = safetensors.open_file(path)
        metadata = file.facts.get("metadata", {})
        document = _document(path, metadata)
        numbers = {name: file.reader(name) for name in file.arrays}
    except (UnfitError, OSError) as error:
        raise InputError(
            f"{path} is truncated or not a safetensors file ({error}); get it again, or "
            "convert another framework's file with resnetkit.convert"
        ) from None
    if metadata.get(DIGEST) != digest_of(metadata[DOCUMENT], numbers):
        raise InputError(
            f"{path} was modified after it was written: its digest differs; get it again"
        )
    try:
        found = Bundle(
            network=Network.from_dict(document["network"]),
            arrays=Tensors(numbers),
            preprocess=Preprocess.from_dict(document["preprocess"]),
            classes=tuple(document["classes"]),
            origin=document["origin"],
            measured=document["measured"],
        )
        _DIGESTS[found] = metadata[DIGEST]
        return found
    except (InputError, KeyError, TypeError) as error:
        raise InputError(f"{path} has an invalid header: {error}; get it again") from None


def _is_safetensors(path: Path) -> bool:
    """Whether the path is a bundle, by its name or by its first bytes."""
    if path.suffix.lower() == ".safetensors":
        return True
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return True  # reading it raises the error
    return not head or safetensors.claims(head, path)


def document_of(path: str | Path) -> dict[str, Any]:
    """Read a bundle's header - network, classes, origin, metrics - without its weights.

    The digest is not verified. Raises ``ValueError`` for a file that is not a bundle.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    try:
        return _document(path, safetensors.open_file(path).facts.get("metadata", {}))
    except (UnfitError, OSError) as error:
        raise InputError(f"{path} is truncated or not a safetensors file ({error})") from None


def _document(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if DOCUMENT not in metadata:
        raise InputError(
            f"{path} is a safetensors file, but not a bundle: its header has no {DOCUMENT!r}; "
            "convert it with resnetkit.convert"
        )
    try:
        document = parsed(metadata[DOCUMENT], "its header")
        check(document, {"version": whole(0, 1_000_000)}, "its")
    except InputError as error:
        raise InputError(f"{path} has an invalid header: {error}; get it again") from None
    version = document["version"]
    if version != VERSION:
        raise InputError(
            f"{path} has version {version} of the bundle format and this resnetkit reads "
            f"{VERSION}; update resnetkit"
        )
    try:
        check(document, RULES, "its")
    except InputError as error:
        raise InputError(f"{path} has an invalid header: {error}; get it again") from None
    return document


def digest_of(document: str, numbers: Mapping[str, npt.NDArray[Any]]) -> str:
    """SHA-256 of a document and of the names, types, shapes and values of arrays."""
    digest = hashlib.sha256(document.encode())
    for name in sorted(numbers):
        values = np.ascontiguousarray(numbers[name])
        shape = numbers[name].shape
        digest.update(f"{name} torch.{values.dtype.name} {shape}".encode())
        digest.update(values.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _check_arrays(network: Network, arrays: Mapping[str, Tensor]) -> None:
    wanted = tensors(network)
    # Both kinds have shapes; numpy's need no torch.
    have: Mapping[str, Any] = arrays.numbers if isinstance(arrays, Tensors) else arrays
    for name, shape in wanted.items():
        if name not in have:
            raise InputError(f"the weights lack {name} of {network.name}")
        if tuple(have[name].shape) != shape:
            raise InputError(
                f"{name} has the shape {tuple(have[name].shape)} and {network.name} has {shape}"
            )
    extra = sorted(set(have) - set(wanted))
    if extra:
        raise InputError(f"the weights have {extra[0]}, which {network.name} does not have")

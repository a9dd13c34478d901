"""Exports a bundle to another runtime, and verifies it on images before replacing the target."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from resnetkit import display
from resnetkit.bundle.bundle import Bundle, load
from resnetkit.bundle.opening import open_model, report_of
from resnetkit.data.datasets.dataset import Sample
from resnetkit.data.decoding.decode import UnreadableImageError, pixels_of, whole
from resnetkit.data.prefetch import Track
from resnetkit.errors import InputError, check_installed
from resnetkit.exporters.agreement import Agreement, agree
from resnetkit.exporters.calibration_images import Material, material
from resnetkit.exporters.model_repository import name_of, write_ovms, write_triton
from resnetkit.exporters.quantization import Bar
from resnetkit.exporters.web_page import write_page
from resnetkit.exporters.writers import Written
from resnetkit.files import sha256_of, write_text
from resnetkit.inference.engines.exported_model import PRECISIONS, Exported, ExportFormat

Target = Literal["onnx", "openvino", "torch-export", "bundle", "triton", "ovms", "web"]
TARGETS: tuple[Target, ...] = get_args(Target)
#: The suffix of a target's file; a repository is a folder with any name.
_ENDINGS: Mapping[Target, str] = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "torch-export": ".pt2",
    "bundle": ".safetensors",
    "web": ".html",
}
#: Targets that hold a graph: the suffix of its file.
_GRAPHS: Mapping[Target, str] = {"triton": ".onnx", "ovms": ".xml", "web": ".onnx"}
_KINDS: Mapping[Target, ExportFormat] = {
    "onnx": "onnx",
    "triton": "onnx",
    "openvino": "openvino",
    "ovms": "openvino",
    "torch-export": "torch-export",
    "web": "onnx",
}
#: Minimum percentage of images with the same class.
MIN_AGREEMENT = 99.0
#: Required shares of a class's lead, tried in turn if int8 fails on other images.
LEADS = (0.0, 0.5, 0.75, 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """An export and its agreement. ``spared`` are the layers left in float32."""

    source: Path
    target: Path
    to: Target
    precision: str
    files: tuple[str, ...]
    bytes: int
    spared: tuple[str, ...]
    agreement: Agreement
    digests: Mapping[str, str]

    @property
    def report(self) -> Path:
        """The agreement report beside the file."""
        return report_of(self.target)

    def to_dict(self) -> dict[str, Any]:
        """The export and its agreement as JSON types."""
        return {
            "source": str(self.source),
            "target": str(self.target),
            "to": self.to,
            "precision": self.precision,
            "files": list(self.files),
            "bytes": self.bytes,
            "sha256": dict(self.digests),
            "kept_in_float32": list(self.spared),
            "agreement": self.agreement.to_dict(),
        }


def export(
    model: Bundle | str | Path,
    target: str | Path,
    *,
    to: Target = "onnx",
    precision: str | None = None,
    calibrate: str | Path | None = None,
    agree_on: str | Path | None = None,
    min_agreement: float = MIN_AGREEMENT,
    dynamic_batch: bool = False,
    with_preprocessing: bool = False,
    track: Track = display.track,
) -> Export:
    """Export a bundle to ``target``, and write the agreement report beside it.

    ``to`` is ``onnx``, ``openvino``, ``torch-export``, ``bundle``, ``triton``, ``ovms`` or ``web``
    (a classifier as one HTML file), ``precision`` ``fp32``, ``fp16`` or ``int8``, by default
    ``fp32``, for ``web`` ``fp16``; ``calibrate`` are images for int8, ``agree_on`` for the
    comparison, by default those of the run that the bundle is in.

    Without ``dynamic_batch`` the graph takes one image at a time (a Triton repository takes many).
    With ``with_preprocessing`` it takes one whole image and resizes and crops it itself. Raises
    ``ValueError`` for unsupported combinations, and if fewer than ``min_agreement`` percent of the
    images have the same class or accuracy is lost; ``target`` is then unchanged.

    >>> done = resnetkit.export(model, "net.onnx", dynamic_batch=True)
    >>> done.agreement.agreeing
    1.0
    """
    target = Path(target)
    source = Path(model) if isinstance(model, str | Path) else None
    precision = precision or ("fp16" if to == "web" else "fp32")
    _check(target, to, precision, dynamic_batch, with_preprocessing, min_agreement)
    bundle = load(model) if isinstance(model, str | Path) else model
    if to == "web":
        _check_classifier(bundle)
    images = material(
        bundle, source, calibrate=calibrate, agree_on=agree_on, quantise=precision == "int8"
    )
    exported = Exported(
        path=target,
        kind=_KINDS.get(to, "onnx"),
        network=bundle.network,
        preprocess=bundle.preprocess,
        classes=bundle.classes,
        precision=precision,
        output="logits" if bundle.classes else "embeddings",
        batch=None if (dynamic_batch or to == "triton") and not with_preprocessing else 1,
        cuts=with_preprocessing,
        origin=bundle.origin,
        measured=bundle.measured,
    )
    written = Written(bundle=bundle, exported=exported)
    if precision == "int8":
        written.images = _inputs(exported, images.calibration)
    with _workshop(target) as folder:
        file = folder / f"model{_GRAPHS.get(to) or _ENDINGS[to]}"
        found = _proved(written, file, to, images, min_agreement, track)
        problem = found.problem(min_agreement)
        if problem is not None:
            raise InputError(f"{target} is not written: {problem}; measured on {images.data}")
        if to == "web":
            page = folder / "page.html"
            write_page(page, file.read_bytes(), exported, found, target.stem)
            file = page
        moved = _placed(folder, file, target, to, exported)
        done = Export(
            source=source or Path("bundle"),
            target=target,
            to=to,
            precision=precision,
            files=tuple(str(path) for path in moved),
            bytes=sum(path.stat().st_size for path in moved),
            spared=written.spared,
            agreement=found,
            digests={path.name: sha256_of(path) for path in moved},
        )
    write_text(done.report, json.dumps(done.to_dict(), indent=2) + "\n")
    return done


def _proved(
    written: Written, file: Path, to: Target, images: Material, least: float, track: Track
) -> Agreement:
    """Write the file and compare it; in int8 repeatedly, with the worst layers in float32.

    Layers are reverted until more calibration images keep their class, then half of its lead, and
    so on, because a bar just met on these may fail on the verification images.
    """

    def asked(bar: Bar | None) -> Agreement:
        written.bar = bar
        _write(written, file, to)
        return agree(
            written.bundle,
            open_model(file),
            images.proof,
            images.data,
            labelled=images.labelled,
            track=track,
        )

    found = asked(None)
    for lead in LEADS if written.exported.precision == "int8" else ():
        if found.problem(least) is None:
            break
        ranked = bool(written.bundle.classes)
        found = asked(Bar(least=(least + 100) / 2, lead=lead, ranked=ranked))
    return found


def _write(written: Written, file: Path, to: Target) -> None:
    {
        "onnx": written.onnx,
        "triton": written.onnx,
        "openvino": written.openvino,
        "ovms": written.openvino,
        "torch-export": written.torch_export,
        "bundle": written.safetensors,
        "web": written.web,
    }[to](file)


def _inputs(exported: Exported, examples: Iterable[Sample]) -> list[Any]:
    """The graph's inputs, one image at a time; unreadable images are skipped."""
    read = whole if exported.cuts else pixels_of
    found = []
    for example in examples:
        with suppress(UnreadableImageError):
            found.append(read(example.image, exported.preprocess)[None])
    return found


def _check(
    target: Path, to: Target, precision: str, dynamic: bool, cuts: bool, least: float
) -> None:
    if to not in TARGETS:
        raise InputError(f"the target is {to!r}; it must be one of {', '.join(TARGETS)}")
    if precision not in PRECISIONS:
        raise InputError(
            f"the precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}"
        )
    if not 0 <= least <= 100:
        raise InputError(
            f"min_agreement is {least:g}; it must be a percentage from 0 to 100",
            field="min_agreement",
        )
    ending = _ENDINGS.get(to)
    if ending is not None and target.suffix.lower() != ending:
        raise InputError(f"{target} must end in {ending} for {to}")
    if ending is None and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target} already exists; give a new folder for the repository")
    if precision == "int8" and to in ("torch-export", "bundle"):
        raise InputError(f"int8 requires openvino, onnx, ovms, triton or web, not {to}")
    if to == "web" and (cuts or dynamic):
        raise InputError(
            "web takes one image, which the page crops; leave with_preprocessing and "
            "dynamic_batch out",
            field=("with_preprocessing", "dynamic_batch"),
        )
    if cuts and to in ("torch-export", "bundle"):
        raise InputError(
            f"with_preprocessing requires onnx, openvino, ovms or triton, not {to}",
            field="with_preprocessing",
        )
    if cuts and dynamic:
        raise InputError(
            "with_preprocessing takes one image at a time, as images differ in size; "
            "leave dynamic_batch out",
            field=("with_preprocessing", "dynamic_batch"),
        )
    needed = {"onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}
    for package in needed.get(_KINDS.get(to, ""), ()):
        check_installed(package, to)
    for package in ("nncf", "openvino") if precision == "int8" else ():
        check_installed(package, "int8")


def _check_classifier(bundle: Bundle) -> None:
    if not bundle.classes:
        raise InputError("web requires a network with classes; this one gives embeddings")
    bundle.preprocess.check_pictures()


@contextmanager
def _workshop(target: Path) -> Iterator[Path]:
    """A temporary folder beside the target, on the same disk."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}") from None
    try:
        yield folder
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _placed(
    folder: Path, file: Path, target: Path, to: Target, exported: Exported
) -> tuple[Path, ...]:
    """Move the written files to their place; return them."""
    if to in ("triton", "ovms"):
        made = folder / "repository"
        made.mkdir()
        (write_triton if to == "triton" else write_ovms)(made, name_of(target), exported, file)
        if target.exists():
            target.rmdir()
        made.chmod(0o755)
        made.rename(target)
        return tuple(sorted(path for path in target.rglob("*") if path.is_file()))
    moved = []
    # The weights first: an .xml is never without its .bin.
    for suffix in (".bin", ".xml") if to == "openvino" else (file.suffix,):
        place = target.with_suffix(suffix) if to == "openvino" else target
        file.with_suffix(suffix).replace(place)
        moved.append(place)
    return tuple(sorted(moved))

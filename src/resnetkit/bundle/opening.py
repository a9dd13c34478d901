"""Opens a bundle or an exported file; the kind is detected from its contents.

Nothing in a file is executed: see ``inference.engines.exported_model``. If an agreement report lies
beside a file, the file must match its digest.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from resnetkit import source
from resnetkit.bundle.bundle import Bundle, load
from resnetkit.errors import InputError, parsed
from resnetkit.files import sha256_of
from resnetkit.formats import onnx, zip_archive
from resnetkit.formats.container import UnfitError, as_input_errors
from resnetkit.inference.engines.exported_model import DOCUMENT, Exported, ExportFormat
from resnetkit.inference.engines.torch_export_archive import document_in

#: An OpenVINO IR has a few kilobytes per layer; the weights are in the .bin file.
MOST_XML = 256 << 20


def open_model(path: str | Path) -> Bundle | Exported:
    """Open a bundle, or an ONNX, OpenVINO or ``.pt2`` file written by ``export``.

    Also takes a published source, e.g. ``hf:OWNER/NAME``; see ``fetch``. Raises ``ValueError`` for
    a missing, damaged or unsupported file, and for one that does not match the agreement report
    beside it.

    >>> resnetkit.open_model(model).preprocess.size
    16
    """
    if source.is_source(path):
        fetched: Bundle = source.function("load")(str(path))
        return fetched
    path = Path(path)
    if not path.is_file():
        return load(path)  # raises the error that fits
    with as_input_errors(path):
        found = _exported(path)
        if found is not None:
            return _proved(Exported.read(path, *found))
    return load(path)


def read_exported(path: Path) -> Exported | None:
    """The description of a file that ``export`` wrote; None for any other, also a foreign graph."""
    with as_input_errors(path):
        found = _exported(path)
        if found is None or (found[1] is None and found[0] != "openvino"):
            return None
        return Exported.read(path, *found)


def _exported(path: Path) -> tuple[ExportFormat, str | None] | None:
    """The kind and document of an exported file; None for any other file."""
    with path.open("rb") as file:
        head = file.read(512)
    if head.lstrip()[:5] in (b"<?xml", b"<net "):
        return "openvino", _of_openvino(path)
    if zip_archive.is_zip(head) and any(
        name.endswith("/archive_format") for name in zip_archive.entries(path)
    ):
        return "torch-export", document_in(path)
    if head[5:9] != b"\0\0\0{" and onnx.claims(head, path):
        return "onnx", onnx.open_file(path).facts["metadata"].get(DOCUMENT)
    return None


def as_model(model: Bundle | Exported | str | Path) -> Bundle | Exported:
    """The model; a path is opened."""
    return open_model(model) if isinstance(model, str | Path) else model


def report_of(target: Path) -> Path:
    """The path of the agreement report of ``target``."""
    return target.with_name(f"{target.name}.agreement.json")


def _proved(exported: Exported) -> Exported:
    """Return ``exported``; raise ``InputError`` if its digest differs from the report beside it."""
    report = report_of(exported.path)
    try:
        digests = parsed(report.read_bytes())["sha256"]
        # Both may have been renamed.
        known = {Path(name).suffix.lower(): digest for name, digest in digests.items()}
    except FileNotFoundError:
        return exported
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{report} cannot be read; export again, or remove it") from None
    for file in (exported.path, exported.path.with_suffix(".bin")):
        wanted = known.get(file.suffix.lower())
        if wanted is not None and file.is_file() and wanted != sha256_of(file):
            raise InputError(
                f"{file} was modified after its export: its digest differs from {report}; "
                "export it again, or remove the report to use it unverified"
            )
    return exported


def _of_openvino(path: Path) -> str | None:
    if path.stat().st_size > MOST_XML:
        raise UnfitError(f"has more than {MOST_XML} bytes, too many for a network")
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, ValueError) as error:
        raise UnfitError(f"is invalid XML ({error}); export it again") from None
    if root.tag != "net":
        raise UnfitError("is XML, but not an OpenVINO IR; give the .xml that `export` wrote")
    if not path.with_suffix(".bin").is_file():
        raise InputError(f"{path} has no {path.with_suffix('.bin').name} beside it; copy both")
    entry = root.find(f"rt_info/{DOCUMENT}")
    return None if entry is None else entry.get("value")

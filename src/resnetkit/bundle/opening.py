"""Opens a bundle or an exported file; the kind is detected from its contents.

The kind is detected from the content, and nothing in a file is executed: see
``inference.engines.exported_model``. Where the agreement report lies beside a file, the file has to
be the one that was proved.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from resnetkit.bundle.bundle import Bundle, load
from resnetkit.errors import InputError, parsed
from resnetkit.files import sha256_of
from resnetkit.formats import onnx, zip_archive
from resnetkit.formats.container import UnfitError, told
from resnetkit.inference.engines.exported_model import DOCUMENT, Exported, ExportFormat
from resnetkit.inference.engines.torch_export_archive import document_in

#: An OpenVINO IR has some kilobytes for each layer; its numbers are in the file beside it.
MOST_XML = 256 << 20


def open_model(path: str | Path) -> Bundle | Exported:
    """A bundle, or an ONNX, OpenVINO or ``.pt2`` file that ``export`` wrote.

    Raises ``ValueError`` for a file that is missing, damaged, or something else, and for one that
    is not what the agreement report beside it was made of.

    >>> resnetkit.open_model(model).preprocess.size
    16
    """
    path = Path(path)
    if not path.is_file():
        return load(path)  # which says what is wrong
    with told(path):
        found = _exported(path)
        if found is not None:
            return _proved(Exported.read(path, *found))
    return load(path)


def _exported(path: Path) -> tuple[ExportFormat, str | None] | None:
    """The kind of an exported file and the document in it; None for another file."""
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
    """The model, opened where it is a path."""
    return open_model(model) if isinstance(model, str | Path) else model


def report_of(target: Path) -> Path:
    """Where the agreement report of ``target`` is."""
    return target.with_name(f"{target.name}.agreement.json")


def _proved(exported: Exported) -> Exported:
    """The same; ``InputError`` where the report beside the file is of other files."""
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
                f"{file} was altered after it was proved: its digest is not the one in {report}; "
                "export it again, or remove the report to use it without proof"
            )
    return exported


def _of_openvino(path: Path) -> str | None:
    if path.stat().st_size > MOST_XML:
        raise UnfitError(f"has more than {MOST_XML} bytes, which no network needs")
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, ValueError) as error:
        raise UnfitError(f"is XML that cannot be read ({error}); export it again") from None
    if root.tag != "net":
        raise UnfitError("is XML, but no OpenVINO IR; give the .xml that `export` wrote")
    if not path.with_suffix(".bin").is_file():
        raise InputError(f"{path} has no {path.with_suffix('.bin').name} beside it; copy both")
    entry = root.find(f"rt_info/{DOCUMENT}")
    return None if entry is None else entry.get("value")

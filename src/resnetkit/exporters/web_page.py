"""A classifier as one HTML file: page, runtime and network; works offline, from a file."""

from __future__ import annotations

import base64
import gzip
import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from resnetkit.exporters.agreement import Agreement
from resnetkit.exporters.web_runtime import VERSION, runtime
from resnetkit.inference.engines.exported_model import Exported
from resnetkit.version import __version__

#: In the folder of this package; `make web` builds them from `web/src/classifier`.
_SCRIPT, _WORKER, _STYLE = "classifier.js", "classifier_worker.js", "classifier_style.css"


def write_page(path: Path, model: bytes, exported: Exported, found: Agreement, name: str) -> None:
    """Write the page of the ONNX graph ``model``, which is ``exported``."""
    from jinja2 import Environment, select_autoescape
    from markupsafe import Markup

    script, style = _static(_SCRIPT), _static(_STYLE)
    parts = {**runtime(), "worker-script": _static(_WORKER).encode(), "model": model}
    page = Environment(autoescape=select_autoescape(default=True)).from_string(
        _static("web_page.html")
    )
    text = page.render(
        facts=_facts(exported, found, name),
        policy=_policy(script, style),
        script=Markup(script),
        style=Markup(style),
        stored=[(each, _packed(data)) for each, data in parts.items()],
        version=__version__,
    )
    path.write_text(text, encoding="utf-8")


@cache
def _static(name: str) -> str:
    return files(__package__).joinpath("static", name).read_text(encoding="utf-8")


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, mtime=0)).decode()


def _policy(script: str, style: str) -> str:
    """What the page may do: run its own script and the runtime, show pictures; nothing outside."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(script)} 'wasm-unsafe-eval' blob:",
            f"style-src {_hash(style)}",
            "worker-src blob:",
            "img-src blob: data:",
            "media-src blob: mediastream:",
            "form-action 'none'",
            "base-uri 'none'",
        )
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _facts(exported: Exported, found: Agreement, name: str) -> dict[str, Any]:
    """See ``web/src/classifier/facts.ts``."""
    return {
        "name": name,
        "network": exported.network.name,
        "precision": exported.precision,
        "classes": exported.classes,
        "preprocess": exported.preprocess.to_dict(),
        "agreement": found.agreeing,
        "images": found.images,
        "accuracy": (exported.measured or {}).get("accuracy"),
        "runtime": f"onnxruntime-web {VERSION}",
    }

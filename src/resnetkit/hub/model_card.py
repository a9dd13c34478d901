"""The model card of a bundle: Markdown with metadata that the Hugging Face Hub reads.

The text is the Jinja template ``model_card.md.jinja``; class names and other text from files are
escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from resnetkit.architecture.explanation import explain
from resnetkit.bundle.bundle import Bundle
from resnetkit.errors import is_finite, printable, require
from resnetkit.files import utf8
from resnetkit.hub.framework_folder import timm_name
from resnetkit.source import Source, parse

CARD, LIBRARY = "README.md", "resnetkit"
#: A model card with this line is written anew with each push.
MARK = "<!-- Written by resnetkit with each push. Remove this line to keep your own text. -->"
#: The most class names shown.
_NAMES = 100
_METRICS = {"accuracy": "accuracy", "top5": "top-5 accuracy"}
#: Punctuation that has no meaning within a line of Markdown.
_PLAIN = frozenset(" ,:;-'()")
_TORCHVISION = (
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
    *("wide_resnet50_2", "wide_resnet101_2"),
)


def model_card(
    bundle: Bundle,
    repo_id: str,
    *,
    framework: str,
    weights: str,
    revision: str | None = None,
    license: str | None = None,
) -> str:
    """The model card of ``bundle`` in the repository ``repo_id``.

    ``framework`` loads its ``model.safetensors``, and ``weights`` is the name of the bundle there.
    """
    options, size = bundle.network.options, bundle.preprocess.size
    origin = bundle.origin
    recipe = _mapping(origin.get("recipe"))
    explanation = explain(bundle.network, input=(options.in_chans, size, size))
    data = recipe.get("data")
    rows = _measurements(bundle)
    text = _template().render(
        metadata=Markup(_metadata(bundle, repo_id, framework, license, rows)),
        mark=Markup(MARK),
        repo=Markup(repo_id),
        revision=Markup(revision) if revision not in (None, "main") else None,
        framework=framework,
        weights=Markup(weights),
        torchvision=_torchvision(bundle),
        name=repo_id.partition("/")[2],
        network=bundle.network,
        totals=explanation.totals,
        input=explanation.input,
        features=bundle.network.features,
        preprocess=bundle.preprocess,
        classes=bundle.classes,
        shown=bundle.classes[:_NAMES],
        license=license,
        data=data if isinstance(data, str) else None,
        images=_counts(origin.get("images")),
        rows=rows,
        sources=[source.text for source in _sources(origin)],
        assumed=_mapping(origin.get("assumed")),
        dialect=str(origin.get("dialect")),
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def escaped(value: object) -> str:
    """Text for a line of Markdown that shows it as it is; see CommonMark, section 2.5."""
    if isinstance(value, Markup):
        return value
    text = printable(utf8(str(value)))
    return "".join(c if c.isalnum() or c in _PLAIN else f"&#{ord(c)};" for c in text)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=escaped,
    )
    environment.filters["percent"] = lambda share: Markup(f"{100 * share:.2f} %")
    environment.filters["count"] = lambda number: Markup(f"{number:,}")
    return environment.get_template("model_card.md.jinja")


def _metadata(
    bundle: Bundle, repo_id: str, framework: str, license: str | None, rows: list[dict[str, Any]]
) -> str:
    hub = require("huggingface_hub", "a model card")
    task = "image-classification" if bundle.classes else "image-feature-extraction"
    data = _mapping(bundle.origin.get("recipe")).get("data")
    results = [
        hub.EvalResult(
            task_type=task,
            dataset_type=printable(utf8(data)),
            dataset_name=printable(utf8(data)),
            dataset_split=row["part"],
            metric_type="accuracy",
            metric_name=row["metric"],
            metric_value=row["value"],
        )
        for row in rows
        if isinstance(data, str) and row["part"] == "test"
    ]
    sources = _sources(bundle.origin)
    bases = [source.name for source in sources if source.kind == "hf" and source.name != repo_id]
    published = any(source.kind == "torchvision" for source in sources)
    values = {
        "license": license or "unknown",
        "library_name": LIBRARY,
        "pipeline_tag": task,
        "tags": [task, "resnet", *(() if framework == "none" else (framework,))],
        "datasets": ["imagenet-1k"] if published and "recipe" not in bundle.origin else None,
        "base_model": bases[0] if bases else None,
        "metrics": ["accuracy"] if rows else None,
        "model_name": repo_id.partition("/")[2] if results else None,
        "eval_results": results or None,
    }
    return str(hub.ModelCardData(**values).to_yaml()).strip()


def _measurements(bundle: Bundle) -> list[dict[str, Any]]:
    """The accuracies that a bundle stores, with what is known of their intervals."""
    rows, counts = [], _counts(bundle.origin.get("images"))
    for part, values in bundle.measured.items():
        measured = _mapping(values)
        for key, metric in _METRICS.items():
            value = measured.get(key)
            if not is_finite(value):
                continue
            interval = _mapping(measured.get("intervals")).get(key)
            if not (isinstance(interval, list) and [*map(is_finite, interval)] == [True, True]):
                interval = None
            images = measured.get("images", counts.get(part))
            rows.append(
                {
                    "part": printable(utf8(part)),
                    "metric": metric,
                    "value": value,
                    "images": images if type(images) is int else None,
                    "interval": interval,
                    "mirrored": measured.get("mirrored") is True,
                }
            )
    return rows


def _counts(images: Any) -> dict[str, int]:
    return {part: count for part, count in _mapping(images).items() if type(count) is int}


def _sources(origin: Mapping[str, Any]) -> list[Source]:
    """The published sources of the weights, and of those that a run started from."""
    found = []
    for part in (origin, _mapping(origin.get("start"))):
        source = _mapping(part.get("fetched")).get("source")
        with suppress(ValueError):
            found.append(parse(printable(utf8(str(source)))))
    return [one for one in found if one.kind != "url" or one.text.startswith("https:")]


def _torchvision(bundle: Bundle) -> str | None:
    """torchvision's name of the network, if its transforms can also make the pixels."""
    options, preprocess = bundle.network.options, bundle.preprocess
    usual = options.in_chans == 3 and options.output_stride == options.natural_stride
    plain = preprocess.channels == "RGB" and preprocess.divisor == 255
    if not (usual and plain and preprocess.resize == "shortest" and bundle.classes):
        return None
    name = timm_name(bundle.network)
    return name if name in _TORCHVISION else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

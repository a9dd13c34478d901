"""HTML page that opens a network: stages, blocks, layers, windows and costs.

The page is self-contained: its script and style (built from ``web/``) are in it, and its policy
allows nothing else, neither scripts nor addresses.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING

from resnetkit.architecture.explanation import Explanation
from resnetkit.architecture.layer import shape_text
from resnetkit.inspect.page.view_data import packed, view_data

if TYPE_CHECKING:
    from resnetkit.inspect import Picture


def view_page(
    explanation: Explanation, looks: Sequence[Picture] = (), *, live: bool = False
) -> str:
    """The network of ``explanation`` as a page that opens it, from its input.

    ``looks`` are pictures that went through it, of that size; a ``live`` page sends more of them to
    ``look`` beside it.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    style, script = _file("static/view.css"), _file("static/view.js")
    answers = "'self'" if live else "'none'"
    policy = (
        "default-src 'none'; img-src data: blob:; media-src blob: mediastream:; "
        f"connect-src {answers}; script-src '{_digest(script)}'; "
        f"style-src '{_digest(style)}'; base-uri 'none'; form-action 'none'"
    )
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(_file("view.html"))
    return page.render(
        title=explanation.title,
        input=shape_text(explanation.input),
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        data=packed(view_data(explanation) | {"looks": list(looks), "live": live}),
    )


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"sha256-{digest}"

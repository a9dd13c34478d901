"""HTML page that opens a network: stages, blocks, layers, windows and costs.

The page is self-contained: its script and style (built from ``web/``) are in it, and its policy
allows nothing else, neither scripts nor addresses.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from resnetkit.architecture.explanation import Explanation
from resnetkit.architecture.layer import shape_text
from resnetkit.report.pages.templates import template
from resnetkit.report.pages.view_data import packed, view_data

if TYPE_CHECKING:
    from resnetkit.inspect import Picture


def view_page(
    explanation: Explanation, looks: Sequence[Picture] = (), *, live: bool = False
) -> str:
    """The network of ``explanation`` as a page that opens it, from its input.

    ``looks`` are pictures that went through it, of that size; a ``live`` page sends more of them to
    ``look`` beside it.
    """
    style, script = _built("view.css"), _built("view.js")
    answers = "connect-src 'self'; " if live else ""
    policy = (
        f"default-src 'none'; img-src data:; {answers}script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return template("view.html").render(
        title=explanation.title,
        input=shape_text(explanation.input),
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        data=packed(view_data(explanation) | {"looks": list(looks), "live": live}),
    )


def _built(name: str) -> str:
    folder = resources.files("resnetkit.report.pages") / "static"
    return (folder / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"sha256-{digest}"

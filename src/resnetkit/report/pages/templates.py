"""Jinja templates; values are escaped and made printable."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from resnetkit.errors import printable
from resnetkit.report.console.lines import between, percent
from resnetkit.report.drawing.marks import typeset

REPORT = Path(__file__).parents[1]


@cache
def template(name: str) -> Template:
    """The template of that name."""
    environment = Environment(
        loader=FileSystemLoader([REPORT / "pages", REPORT / "notebook"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finished,
    )
    environment.filters |= {
        "percent": percent,
        "between": between,
        "short": _short,
        "drawn": typeset,
    }
    return environment.get_template(name)


@cache
def script(name: str) -> Markup:
    """A script that ``web/`` builds for a page."""
    return Markup((REPORT / "pages/static" / f"{name}.js").read_text(encoding="utf-8").strip())


def _finished(value: object) -> object:
    """Replace text that cannot be displayed or written, such as invalid UTF-8 in file names."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value)
    return value


def _short(words: str, most: int = 28) -> str:
    words = printable(words)
    return words if len(words) <= most else f"{words[: most - 1]}…"

"""Links from the mistakes of a report to the page that opens them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from html import escape, unescape
from pathlib import Path
from urllib.parse import quote

from resnetkit.errors import printable
from resnetkit.files import write_text
from resnetkit.training.run_folder import MISTAKES, REPORT

#: A mistake of the report, see ``run_page.html``; with a link if there was a page before.
_PLACE = re.compile(r'<a data-picture="([^"]*)"(?: href="[^"]*")?>')


def mistakes_command(run: Path) -> str:
    """The command that writes the page of a run's mistakes into its folder.

    Of an absolute folder only the name, as reports are shared.
    """
    folder = Path(run.name) if run.is_absolute() else run
    return shlex.join(
        ["resnetkit", "view", str(folder), "--mistakes", "--out", str(folder / MISTAKES)]
    )


def link_mistakes(page: Path, names: Sequence[str]) -> None:
    """Link the report beside ``page``, if there is one, to the mistakes that ``page`` shows, and
    no others."""
    report = page.parent / REPORT
    if page.name == REPORT or not report.is_file():
        return
    places = {printable(name): number for number, name in reversed(list(enumerate(names, 1)))}

    def linked(found: re.Match[str]) -> str:
        number = places.get(unescape(found[1]))
        link = f' href="{escape(quote(page.name))}#picture={number}"' if number else ""
        return f'<a data-picture="{found[1]}"{link}>'

    text = report.read_text(encoding="utf-8")
    changed = _PLACE.sub(linked, text)
    if changed != text:
        write_text(report, changed)

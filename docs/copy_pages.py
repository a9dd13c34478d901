"""Copies the pages of the documentation site, and the files they link to, into a folder.

Relative links stay as they are. The API reference lists what ``import resnetkit`` offers.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import resnetkit

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md"))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)|src=\"(?!https?:)([^\"]+)\"")


def copy(page: Path, target: Path, done: set[Path]) -> None:
    """Copy a file below ``target``, and if it is a page what it links to."""
    page = page.resolve()
    if page in done:
        return
    done.add(page)
    place = target / page.relative_to(ROOT)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(page, place)
    if page.suffix == ".md":
        for link, source in LINK.findall(page.read_text(encoding="utf-8")):
            linked = page.parent / (link or source)
            if linked.is_file():
                copy(linked, target, done)


def reference() -> str:
    """A page with every public name."""
    names = sorted(resnetkit.__all__, key=lambda name: (name[0].isupper(), name.lower()))
    parts = [f"::: resnetkit.{name}" for name in names if not name.startswith("_")]
    return "# Python API\n\n" + "\n\n".join(parts) + "\n"


def main() -> None:
    target = Path(sys.argv[1])
    shutil.rmtree(target, ignore_errors=True)
    done: set[Path] = set()
    for page in PAGES:
        copy(ROOT / page, target, done)
    shutil.copy(ROOT / "docs" / "site.css", target / "docs")
    (target / "reference.md").write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main()

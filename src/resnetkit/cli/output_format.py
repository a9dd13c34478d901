"""The format of an output, by ``--format`` or by the ending of ``--out``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from resnetkit.errors import InputError


def format_of(name: str | None, out: Path | None, endings: Mapping[str, tuple[str, ...]]) -> str:
    """The given format, else the one of the ending of ``out``, else the first.

    ``endings`` has the formats that each ending may hold. Raises ``InputError`` for an unknown
    ending, for one that contradicts the format, and for a file that cannot be written.
    """
    if out is None:
        return name or next(iter(endings.values()))[0]
    from resnetkit.files import check_target

    check_target(out)
    ending = out.suffix.lower()
    held = endings.get(ending, ())
    if not held and (ending or name is None):
        raise InputError(f"{out} has no known ending; give {', '.join(endings)}")
    if name is None:
        return held[0]
    if held and name not in held:
        fitting = " or ".join(one for one, formats in endings.items() if name in formats)
        raise InputError(
            f"{out} ends in {ending}, and format is {name}; give a file that ends in "
            f"{fitting}, or leave format out",
            field="format",
        )
    return name


def write(page: str | bytes, out: Path | None) -> None:
    """Write a page to a file, or print it."""
    if out is not None:
        from resnetkit.files import atomic

        with atomic(out) as temporary:
            temporary.write_bytes(page if isinstance(page, bytes) else f"{page}\n".encode())
    elif isinstance(page, bytes):
        sys.stdout.buffer.write(page)
    elif page.startswith("<"):
        from resnetkit.report.console.lines import print_page

        print_page(page)
    else:
        sys.stdout.write(f"{page}\n")

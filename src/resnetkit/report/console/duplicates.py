"""Near-duplicates as a table, CSV and JSON."""

from __future__ import annotations

import csv
import json
import sys
from io import StringIO

from resnetkit.errors import printable
from resnetkit.files import utf8
from resnetkit.inspect import Duplicates


def table(found: Duplicates, groups: int) -> str:
    """The largest groups: the kept image, and below it the similarity of each duplicate."""
    lines = []
    for group in found.groups[:groups]:
        lines.append(f"kept    {printable(group.kept)}")
        lines += [f"{one.similarity:.4f}  {printable(one.name)}" for one in group.duplicates]
        lines.append("")
    if len(found.groups) > groups:
        lines += [f"... and {len(found.groups) - groups:,} more groups", ""]
    looked = "each compared with all kept ones" if found.method == "exact" else "approximate search"
    lines.append(
        f"{found.count:,} near-duplicates of {len(found.groups):,} among {found.images:,} images, "
        f"with a cosine similarity of {found.threshold:g} or more; {looked}"
    )
    return "\n".join(lines)


def csv_text(found: Duplicates) -> str:
    """``image,duplicate_of,similarity``: a line for each duplicate, none for kept images."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", "duplicate_of", "similarity"))
    writer.writerows(
        (utf8(one.name), utf8(group.kept), f"{one.similarity:.6f}")
        for group in found.groups
        for one in group.duplicates
    )
    return text.getvalue().removesuffix("\n")


def json_text(found: Duplicates) -> str:
    """``Duplicates.to_dict`` as JSON."""
    return json.dumps(found.to_dict(), indent=2)


def tell_unreadable(found: Duplicates) -> None:
    """Say on stderr how many rows had no embedding."""
    if found.unreadable:
        print(
            f"resnetkit: passed over without an embedding: {found.unreadable:,} images that could "
            "not be read",
            file=sys.stderr,
        )

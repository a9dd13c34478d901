"""Records the images of batches whose loss or gradient is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from resnetkit.files import write_text

#: Maximum consecutive skipped batches; after that the weights are at fault.
MOST_SKIPPED = 25


def record_batch(path: Path, place: str, problem: str, names: Sequence[str], *, write: bool) -> str:
    """Add the images of a batch to the file, unless present; returns a message."""
    known = path.read_text(encoding="utf-8") if path.exists() else ""
    entry = f"{place}: {problem}\n" + "".join(f"    {name}\n" for name in names)
    if write and entry not in known:
        write_text(path, known + entry)
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{problem} {place}: {shown} (all in {path})"

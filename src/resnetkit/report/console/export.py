"""Prints exports and their agreement."""

from __future__ import annotations

from resnetkit.architecture.text import aligned
from resnetkit.exporters.exporter import Export
from resnetkit.report.console.lines import percent, say


def show_export(done: Export) -> None:
    """Print the file, the layers left in float32, and the agreement."""
    found = done.agreement
    size = done.bytes / 1e6
    say(f"{done.target}: {done.to}, {done.precision}, {size:.1f} MB", "bold")
    for name in done.spared:
        say(f"kept in float32: {name}")
    say(f"the same class for {percent(found.agreeing)} of {found.images} images", "bold green")
    rows = [
        ("images", found.data),
        ("largest difference", f"{found.difference:.3g} (largest answer {found.largest:.3g})"),
    ]
    if found.accuracy is not None:
        before, after = found.accuracy
        rows.append(("accuracy", f"{percent(before)} before, {percent(after)} after"))
    first, second = found.engines
    rows.append(("compared", f"{first['engine']} {first['version']}, and {second['engine']} "
                 f"{second['version']}"))  # fmt: skip
    rows.append(("report", str(done.report)))
    for line in aligned(rows, left={0, 1}):
        say(line)

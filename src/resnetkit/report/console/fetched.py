"""Prints fetched weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.errors import printable
from resnetkit.report.console.fitting import fitted_lines

if TYPE_CHECKING:  # it imports torch
    from resnetkit.bundle.bundle import Bundle


def to_dict(bundle: Bundle, target: Path) -> dict[str, Any]:
    """The bundle without its weights, as JSON types."""
    return {
        "target": str(target),
        "network": bundle.network.name,
        "parameters": bundle.network.parameters,
        "classes": list(bundle.classes),
        "preprocess": bundle.preprocess.to_dict(),
        "origin": dict(bundle.origin),
    }


def show(bundle: Bundle, target: Path) -> None:
    """Print the fetched bundle, its known facts and its source."""
    origin, record = bundle.origin, bundle.origin["fetched"]
    names = f"{len(bundle.classes)}: {', '.join(bundle.classes[:3])}, ..."
    rows = [
        ("source", record["source"]),
        ("sha256", record["sha256"]),
        ("checked", record.get("checked", "against the server's digest")),
        ("network", f"{bundle.network.name}: {bundle.network.about}"),
        ("classes", names if bundle.classes else "none"),
        ("names", origin.get("class_names") or "numbers"),
        ("images", bundle.preprocess.text),
        ("bundle", str(target)),
    ]
    print("\n".join(fitted_lines(rows, {0, 1})))
    for word in ("documented", "assumed"):
        for name, value in origin.get(word, {}).items():
            print(f"{word} {name} {value}")
    for warning in (*origin.get("doubts", ()), *origin.get("warnings", ())):
        print(f"warning: {printable(warning)}")

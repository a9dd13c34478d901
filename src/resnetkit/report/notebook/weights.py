"""Bundles and identified files in a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from resnetkit.architecture import text
from resnetkit.architecture.explanation import explain
from resnetkit.bundle.bundle import Bundle
from resnetkit.checkpoints.identification import Identification
from resnetkit.checkpoints.resolve_facts import doubt
from resnetkit.report.console.lines import as_chosen
from resnetkit.report.notebook.view import Table, View, tables

#: Maximum number of entries of a list.
_LISTED = 10


def bundle(shown: Bundle) -> View:
    """Network, classes, preprocessing, origin and measurements."""
    sizes = (shown.preprocess.channel_count, shown.preprocess.size, shown.preprocess.size)
    rows = [("classes", _some(shown.classes)), ("preprocess", _words(shown.preprocess.to_dict()))]
    rows += [(name, as_chosen(value)) for name, value in _plain(shown.origin)]
    rows += [
        (f"measured: {part}", _words(figures))
        for part, figures in shown.measured.items()
        if isinstance(figures, dict)
    ]
    heading = text.heading(explain(shown.network, sizes))
    return tables(heading, _named(rows), about=shown.network.about)


def identification(shown: Identification) -> View:
    """What is known, with its source, and what no tensor shows."""
    facts = shown.to_dict()
    head = "" if facts["head"] is None else f" (head: {facts['head']})"
    rows = [
        ("file", facts["file"]),
        ("container", facts["container"]),
        ("dialect", ", or ".join((facts["dialect"], *facts["also"]))),
        ("network", f"{facts['network']}: {facts['about']}"),
        ("parameters", f"{facts['parameters']:,}"),
        ("classes", f"{as_chosen(facts['num_classes'])}{head}"),
    ]
    known = [(name, as_chosen(one["value"]), one["from"]) for name, one in facts["known"].items()]
    assumed = [
        (
            one["fact"],
            as_chosen(one["default"]),
            _some([as_chosen(v) for v in one["candidates"] if v != one["default"]]),
            one["source"],
        )
        for one in facts["ambiguous"]
    ]
    heads = ("no tensor shows", "assumed", "other values", "source")
    ambiguous = [Table(heads=heads, rows=assumed, left=frozenset(range(4)))] if assumed else []
    known_table = Table(heads=("known", "value", "from"), rows=known, left=frozenset(range(3)))
    doubts = () if shown.described else map(doubt, _doubtful(shown))
    return tables(
        f"{shown.container.path.name}: {facts['network']} of {facts['dialect']}",
        _named(rows),
        *ambiguous,
        folded=[(f"{len(known)} known options", known_table)] if known else [],
        notes=[
            *_counted("missing", facts["missing"]),
            *_counted("skipped, outside the network", facts["leftover"]),
            *doubts,
            *facts["warnings"],
        ],
    )


def _doubtful(shown: Identification) -> Iterable[Any]:
    return (fact for fact in shown.reading.ambiguous if fact.doubtful)


def _named(rows: list[tuple[str, str]]) -> Table:
    return Table(heads=(), rows=rows, left=frozenset({0, 1}))


def _plain(document: Any) -> list[tuple[str, Any]]:
    """The entries that fit on a line."""
    return [(name, v) for name, v in document.items() if not isinstance(v, dict) and v is not None]


def _words(document: Any) -> str:
    return ", ".join(f"{name} {as_chosen(value)}" for name, value in _plain(document))


def _counted(title: str, names: list[str]) -> list[str]:
    return [f"{title}: {_some(names)}"] if names else []


def _some(names: Any) -> str:
    shown = ", ".join(names[:_LISTED])
    return f"{shown}, and {len(names) - _LISTED} more" if len(names) > _LISTED else shown or "none"

"""Prints identified checkpoints and conversions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnetkit.checkpoints.identification import Identification
from resnetkit.checkpoints.resolve_facts import doubt
from resnetkit.errors import printable
from resnetkit.report.console.fitting import fitted, fitted_lines, terminal_width

if TYPE_CHECKING:  # it imports torch, which identification does not need
    from resnetkit.hub.conversion import Converted

#: Maximum number of names listed; the rest is counted.
LISTED = 5


def show_identification(found: Identification) -> None:
    """Print an identification: known and open facts, leftover and missing tensors."""
    facts = found.to_dict()
    wrapper = ", ".join(f"{w['name']} ({w['meaning']})" for w in facts["wrapper"])
    rows = [
        ("file", facts["file"]),
        ("container", facts["container"]),
        ("wrapper", wrapper or "none"),
        ("dialect", ", or ".join((facts["dialect"], *facts["also"]))),
        ("network", f"{facts['network']}: {facts['about']}"),
        ("parameters", f"{facts['parameters']:,}"),
        ("classes", f"{_text(facts['num_classes'])} (head: {facts['head']})"),
        ("input channels", str(facts["in_chans"])),
    ]
    print("\n".join(fitted_lines(rows, {0, 1})))
    known = [(name, _text(fact["value"]), fact["from"]) for name, fact in facts["known"].items()]
    if known:
        print("\nknown")
        print("\n".join(f"  {line}" for line in fitted_lines(known, {0, 1, 2}, indent=2)))
    if facts["ambiguous"]:
        print("\nassumed unless given, as no tensor shows it; --format json explains each")
        open_facts = [
            (
                fact["fact"],
                _text(fact["default"]),
                _others([v for v in fact["candidates"] if v != fact["default"]]),
                fact["source"],
            )
            for fact in facts["ambiguous"]
        ]
        width = terminal_width()
        table = fitted(
            [("fact", "assumed", "or", "sources"), *open_facts],
            {0, 1, 2, 3},
            None if width is None else width - 2,
            wraps={1, 2, 3},
            expendable=("sources",),
            comfortable=30,
        )
        print("\n".join(f"  {line}" for row in table.rows[1:] for line in row))
        if table.notes:
            print("\n".join(table.notes))
    _list("missing", facts["missing"])
    inside = set(found.reading.inside)
    _list("outside the network, skipped", [n for n in facts["leftover"] if n not in inside])
    _list("ignored", [f"{name}: {reason}" for name, reason in facts["ignored"].items()])
    doubts = [doubt(fact) for fact in found.reading.ambiguous if fact.doubtful]
    _list("warnings", [*([] if found.described else doubts), *facts["warnings"]])


def show_converted(done: Converted) -> None:
    """Print a conversion and its verification."""
    origin = done.bundle.origin
    # Not assumptions of an earlier conversion. For a folder, a file in it was read.
    fresh = origin.get("file") == done.source.name or done.source.is_dir()
    spoken = origin["dialect"] if fresh else "bundle"
    print(f"{done.source} ({spoken}): {done.bundle.network.name}")
    print(f"-> {done.target} ({done.dialect}), {done.tensors} tensors, each used once")
    if fresh and origin["assumed"]:
        taken = ", ".join(f"{name} {_text(value)}" for name, value in origin["assumed"].items())
        print(f"assumed as {spoken} documents, as no tensor shows it: {taken}")
    for warning in (*origin.get("doubts", ()), *origin.get("warnings", ())) if fresh else ():
        print(f"warning: {printable(warning)}")
    verified = origin.get("verified_with") if fresh else None
    if verified:
        print(
            f"verified with {verified['framework']}: its logits differ by at most "
            f"{verified['difference']:.3g} (largest logit {verified['largest']:.3g})"
        )
    print(
        f"verified: read back and run on {done.images} images, the logits differ by at most "
        f"{done.difference:.3g} (largest logit {done.largest:.3g})"
    )


def _list(title: str, names: list[str]) -> None:
    if not names:
        return
    print(f"\n{title}")
    for name in names[:LISTED]:
        print(f"  {printable(name)}")
    if len(names) > LISTED:
        print(f"  and {len(names) - LISTED} more; --format json lists all")


def _others(values: list[Any]) -> str:
    """The alternatives of a fact, the first two and the number of others."""
    if not values:
        return ""
    more = f" and {len(values) - 2} more" if len(values) > 2 else ""
    return f"or {', '.join(map(_text, values[:2]))}{more}"


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    return "none" if value is None else str(value)

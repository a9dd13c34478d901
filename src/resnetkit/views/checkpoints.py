"""An identified checkpoint and a conversion: lines on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnetkit.architecture.text import aligned
from resnetkit.checkpoints.identification import Identification

if TYPE_CHECKING:  # it loads torch, which identifying does not need
    from resnetkit.conversion import Converted

#: Names that are listed before the rest is only counted.
LISTED = 5


def show_identification(found: Identification) -> None:
    """Print what a file is: what was read, what cannot be known, what is left over or missing."""
    facts = found.to_dict()
    wrapper = ", ".join(f"{w['name']} ({w['meaning']})" for w in facts["wrapper"])
    rows = [
        ("file", facts["file"]),
        ("container", facts["container"]),
        ("wrapper", wrapper or "none"),
        ("dialect", ", or ".join((facts["dialect"], *facts["also"]))),
        ("network", f"{facts['network']}: {facts['about']}"),
        ("parameters", f"{facts['parameters']:,}"),
        ("classes", f"{_text(facts['classes'])} (head: {facts['head']})"),
        ("input channels", str(facts["input_channels"])),
    ]
    print("\n".join(aligned(rows, left={0, 1})))
    known = [(name, _text(fact["value"]), fact["from"]) for name, fact in facts["known"].items()]
    if known:
        print("\nknown")
        print("\n".join(f"  {line}" for line in aligned(known, left={0, 1, 2})))
    if facts["ambiguous"]:
        print("\ncannot be known from this file; the first is what the framework documents")
        for fact in facts["ambiguous"]:
            print(f"  {fact['fact']}: {' or '.join(map(_text, fact['candidates']))}")
            print(f"    {fact['meaning']}; {fact['source']}")
            pairs = list(zip(map(_text, fact["candidates"]), fact["means"], strict=True))
            print("\n".join(f"      {line}" for line in aligned(pairs, left={0, 1})))
    for title in ("missing", "leftover"):
        _list(title, facts[title])
    _list("ignored", [f"{name}: {reason}" for name, reason in facts["ignored"].items()])
    _list("warnings", facts["warnings"])


def show_converted(done: Converted) -> None:
    """Print what was written and how well it agrees."""
    origin = done.bundle.origin
    fresh = origin.get("file") == done.source.name  # not what an earlier conversion assumed
    spoken = origin["dialect"] if fresh else "bundle"
    print(f"{done.source} ({spoken}): {done.bundle.network.name}")
    print(f"-> {done.target} ({done.dialect}), {done.tensors} tensors, each used once")
    for name, value in origin["assumed"].items() if fresh else ():
        print(f"assumed {name} {_text(value)}, as {spoken} documents")
    for warning in origin.get("warnings", ()) if fresh else ():
        print(f"warning: {warning}")
    verified = origin.get("verified_with") if fresh else None
    if verified:
        print(
            f"verified with {verified['framework']}: its own network's logits differ by "
            f"{verified['difference']:.3g} at most (largest logit {verified['largest']:.3g})"
        )
    print(
        f"proof: read back and run on {done.images} images, the logits differ by "
        f"{done.difference:.3g} at most (largest logit {done.largest:.3g})"
    )


def _list(title: str, names: list[str]) -> None:
    if not names:
        return
    print(f"\n{title}")
    for name in names[:LISTED]:
        print(f"  {name}")
    if len(names) > LISTED:
        print(f"  and {len(names) - LISTED} more; --format json lists all")


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    return "none" if value is None else str(value)

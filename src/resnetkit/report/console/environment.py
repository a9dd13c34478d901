"""Prints the environment, as plain text that can be pasted."""

from __future__ import annotations

from collections.abc import Iterator

from resnetkit.report.environment import PACKAGES, Environment


def show_environment(found: Environment) -> None:
    """A line for each fact."""
    for name, text in _facts(found):
        print(f"{name:<14} {text}".rstrip())
    print("\npackages")
    for name, version in found.packages.items():
        missing = f"not installed ('resnetkit[{PACKAGES.get(name)}]')"
        print(f"  {name:<18} {version or missing}")
    if found.advice:
        print("\nto be faster on this machine")
        for line in found.advice:
            print(f"  - {line}")


def _facts(found: Environment) -> Iterator[tuple[str, str]]:
    yield from found.versions.items()
    memory = "" if found.memory is None else f", {found.memory / (1 << 30):.0f} GiB memory"
    yield "processor", f"{found.processor}; {found.processors} CPUs{memory}"
    yield "instructions", ", ".join(found.instructions) or "not known"
    yield "gpus", "; ".join(found.gpus) or "none"
    yield "engine", f"{found.engine or 'none'}: {found.engine_reason}"
    yield "training", found.training
    for name, value in found.variables.items():
        yield name, value
    for name, place in found.caches.items():
        yield "cache", f"{name}: {place}"

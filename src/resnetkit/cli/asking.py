"""Asking on the terminal for what a file cannot tell."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnetkit.checkpoints.reading import Ambiguity


def asking() -> Callable[[Ambiguity], Any] | None:
    """``ask`` where somebody reads and answers, else None. What is asked goes to stderr."""
    return ask if sys.stdin.isatty() and sys.stderr.isatty() else None


def ask(fact: Ambiguity) -> Any:
    """One of the candidates, as the user chooses."""
    from rich.console import Console
    from rich.prompt import Prompt

    console = Console(stderr=True, highlight=False)
    answers = {str(candidate): candidate for candidate in fact.candidates}
    console.print(f"{fact.fact}: {fact.meaning} ({fact.source})", markup=False)
    for answer, meaning in zip(answers, fact.means, strict=True):
        console.print(f"  {answer}: {meaning}", markup=False)
    default = str(fact.default)
    return answers[Prompt.ask(fact.fact, console=console, choices=list(answers), default=default)]

"""What a notebook shows: objects as HTML, and progress while a function runs.

Both are made by ``report``, on a higher floor. ``resnetkit/__init__.py`` connects it, and it is
imported when something is shown, so that describing a network loads nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Front(Protocol):
    """What is connected: see ``report.notebook.front``."""

    def html(self, shown: object) -> str: ...
    def heading(self, shown: object) -> str: ...
    def track(self, items: Sequence[T]) -> Iterable[T]: ...
    def passing(
        self, total: Callable[[], int | None], done: int
    ) -> AbstractContextManager[Callable[[], None]]: ...
    def training(self) -> AbstractContextManager[Any]: ...


def _unconnected() -> Front:
    raise RuntimeError("resnetkit/__init__.py connects it")


#: Imports what is connected.
front: Callable[[], Front] = _unconnected


class Displayed:
    """An object that notebooks show as HTML.

    The text that they save beside it is one line, as a ``repr`` may be long, and have paths.
    """

    __slots__ = ()

    def _repr_html_(self) -> str:
        return front().html(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        if not in_notebook():
            return {}
        heading = f"<{type(self).__name__}: {front().heading(self)}>"
        return {"text/html": self._repr_html_(), "text/plain": heading}


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and shell.has_trait("kernel")


def track(items: Sequence[T]) -> Iterable[T]:
    """Iterate the items; in a notebook, with a progress bar."""
    return front().track(items) if in_notebook() else iter(items)


def passing(
    total: Callable[[], int | None], done: int = 0
) -> AbstractContextManager[Callable[[], None]]:
    """A function to call for each item, which in a notebook moves a progress bar.

    ``total`` may return None at first; ``done`` items were done before.
    """
    return front().passing(total, done) if in_notebook() else nullcontext(lambda: None)


def training(progress: bool | None) -> AbstractContextManager[Any]:
    """A callback that shows a training run, or None; by default (None) only in a notebook."""
    wanted = in_notebook() if progress is None else progress
    return front().training() if wanted else nullcontext()

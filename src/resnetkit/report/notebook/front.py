"""What notebooks show; ``resnetkit/__init__.py`` connects it to ``resnetkit.display``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from resnetkit.report.console.progress import passing, track
from resnetkit.report.notebook.view import View

if TYPE_CHECKING:
    from resnetkit.report.console.training import Printed

__all__ = ["heading", "html", "passing", "track", "training"]

#: The module with the view of a class, a function of the class's name in small letters; imported on
#: first use, as some of them load torch.
_MODULES = {
    **dict.fromkeys(("Network", "Explanation", "Comparison"), "networks"),
    **dict.fromkeys(("Bundle", "Identification"), "weights"),
    "Prediction": "predictions",
    **dict.fromkeys(("Evaluation", "Measurement"), "evaluations"),
    **dict.fromkeys(("Result", "Runs"), "runs"),
    **dict.fromkeys(("FeatureMaps", "Attribution", "ReceptiveField"), "inspection"),
    **dict.fromkeys(("ActivationStatistics", "WeightsReport"), "inspection"),
}


def html(shown: object) -> str:
    """The object as HTML for a notebook's cell."""
    return _view(shown).html()


def heading(shown: object) -> str:
    """The object in one line."""
    return _view(shown).heading


def _view(shown: object) -> View:
    name = next(cls.__name__ for cls in type(shown).__mro__ if cls.__name__ in _MODULES)
    module = import_module(f"resnetkit.report.notebook.{_MODULES[name]}")
    return cast(View, getattr(module, name.lower())(shown))


def training() -> Printed:
    """A callback that shows a run."""
    from resnetkit.report.console.training import Printed

    return Printed()

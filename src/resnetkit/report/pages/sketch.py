"""The drawing in a page: a wide and a narrow one, of which the style sheet shows one."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from resnetkit.architecture.explanation import Explanation
from resnetkit.report.drawing.svg import drawing, narrow_drawing


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """Both drawings of a network."""

    wide: Markup
    narrow: Markup

    @classmethod
    def of(cls, explanation: Explanation) -> Sketch:
        """Draw a network. Drawings escape their own text."""
        return cls(wide=Markup(drawing(explanation)), narrow=Markup(narrow_drawing(explanation)))

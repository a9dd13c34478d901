"""Rows of a measurement: printed as a table, and with ``--save NAME`` kept in ``results/``.

Kept are NAME.md, dated, with the machine and the versions, NAME.json with the same, and NAME.svg,
bars of one column.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from pairs import processor, versions

FOLDER = Path(__file__).with_name("results")
#: A column: its head, the key of its figure in a row, and how the figure is printed.
Column = tuple[str, str, str]


@dataclass(slots=True, kw_only=True)
class Table:
    """What is measured. Rows are printed as they come; ``bars`` is the key that is drawn.

    ``labels`` are the keys that name a row, ``groups`` those of them that are one chart each.
    """

    title: str
    how: str
    packages: Sequence[str]
    columns: Sequence[Column]
    bars: str
    groups: Sequence[str] = ()
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def facts(self) -> str:
        """The day, the machine and the versions."""
        python = f"Python {platform.python_version()}"
        return f"{date.today()}, {processor()}, {python}, {versions(self.packages)}"

    def begin(self) -> None:
        """Print what stands above the rows."""
        print("\n".join([self.facts, self.how, "", *self._head()]), flush=True)

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row and print it."""
        self.rows.append(row)
        print(self._line(row), flush=True)

    def save(self, name: str | None) -> None:
        """Write the three files, if they are to have a name."""
        if name is None:
            return
        FOLDER.mkdir(exist_ok=True)
        lines = [f"# {self.title}", "", self.facts + "  ", self.how, "", f"![bars]({name}.svg)", ""]
        lines += [*self._head(), *map(self._line, self.rows)]
        (FOLDER / f"{name}.md").write_text("\n".join(lines) + "\n")
        document = {"title": self.title, "facts": self.facts, "how": self.how, "rows": self.rows}
        (FOLDER / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
        self._draw(FOLDER / f"{name}.svg")

    def _head(self) -> list[str]:
        heads = (head for head, _, _ in self.columns)
        kinds = ("---" if form == "" else "--:" for _, _, form in self.columns)
        return [f"| {' | '.join(heads)} |", f"|{'|'.join(kinds)}|"]

    def _line(self, row: dict[str, Any]) -> str:
        cells = (f"{row[key]:{form}}" for _, key, form in self.columns)
        return f"| {' | '.join(cells)} |"

    def _draw(self, path: Path) -> None:
        import matplotlib

        matplotlib.use("svg")
        matplotlib.rcParams["svg.hashsalt"] = path.name
        from matplotlib.figure import Figure

        charts: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in self.rows:
            charts.setdefault(tuple(row[key] for key in self.groups), []).append(row)
        names = [key for _, key, form in self.columns if form == "" and key not in self.groups]
        (head,) = (head for head, key, _ in self.columns if key == self.bars)
        most = max(map(len, charts.values()))
        size = (8, (0.32 * most + 0.9) * len(charts))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(charts), squeeze=False)[:, 0]
        for axis, (group, rows) in zip(axes, charts.items(), strict=True):
            labels = [", ".join(str(row[key]) for key in names) for row in rows]
            values = [row[self.bars] for row in rows]
            colours = ["#2b6cb0" if "resnetkit" in label else "#a0aec0" for label in labels]
            # By their places, as rows may have the same label.
            bars = axis.barh(range(len(rows)), values, color=colours)
            axis.set_yticks(range(len(rows)), labels)
            axis.bar_label(bars, fmt=_shown, padding=3)
            axis.invert_yaxis()
            axis.spines[["top", "right"]].set_visible(False)
            axis.margins(x=0.1)
            title = ", ".join(
                f"{key} {value}" for key, value in zip(self.groups, group, strict=True)
            )
            axis.set_title(f"{title}: {head}" if title else head, loc="left")
        figure.savefig(path, metadata={"Date": None})


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def spread(ratios: Iterable[float]) -> dict[str, float]:
    """The median, the least and the most of some ratios."""
    found = list(ratios)
    return {"ratio": statistics.median(found), "least": min(found), "most": max(found)}


def add_save(parser: argparse.ArgumentParser) -> None:
    """The flag of all benchmarks that keep what they measured."""
    parser.add_argument("--save", metavar="NAME", help="keep it in benchmarks/results")

"""The notebooks of ``examples/`` run, and show what is kept in them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))
from execute import execute  # noqa: E402

NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
QUICK = "learn_resnet50"
#: The size of a notebook with its outputs.
LARGEST = 200_000
_BAR = "resnetkit-progress"


def outputs(cell: Any) -> list[Any]:
    """The outputs of a cell without bars, which depend on the time; printed lines are joined."""
    found: list[Any] = []
    for output in cell.outputs:
        if output.output_type == "stream":
            if found and isinstance(found[-1], tuple) and found[-1][0] == output.name:
                found[-1] = (output.name, found[-1][1] + output.text)
            else:
                found.append((output.name, output.text))
        elif _BAR not in output.data.get("text/html", ""):
            found.append(dict(output.data))
    return found


def rough(output: Any) -> Any:
    """What stays of an output when times and accuracies differ: its words, or its kinds."""
    if isinstance(output, tuple):
        text = re.sub(r"\d[\d.,:e%-]*", "#", output[1])
        return output[0], re.sub(r" +(best)?", " ", text)
    return sorted(output), re.sub(r"\d[\d.,]*", "#", output["text/plain"])


def kept(book: Any) -> list[Any]:
    """What must be the same each time, by cell."""
    found = []
    for cell in book.cells:
        if cell.cell_type == "code":
            shown = outputs(cell)
            varies = "varies" in cell.metadata.get("tags", [])
            found.append([rough(one) for one in shown] if varies else shown)
    return found


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[] if path.stem == QUICK else [pytest.mark.slow])
        for path in NOTEBOOKS
    ],
)
def test_a_notebook_shows_what_it_kept(path: Path, tmp_path: Path) -> None:
    """``python examples/execute.py`` writes the outputs anew."""
    before = nbformat.read(path, as_version=4)
    assert kept(execute(path, tmp_path)) == kept(before)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_tidy(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text) < LARGEST
    assert not re.findall(r"/(?:home|root|tmp|work|Users)/|\\\\Users", text), "a path of a machine"
    book = nbformat.reads(text, as_version=4)
    nbformat.validate(book)
    assert book.metadata["language_info"] == {"name": "python"}
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type in ("stream", "execute_result", "display_data")
            assert output.get("name") != "stderr", output
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})


def test_links_lead_somewhere() -> None:
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "markdown":
                for target in re.findall(r"\]\(([^)#\s]+)", "".join(cell["source"])):
                    assert (EXAMPLES / target).exists(), f"{path.name} links to {target}"


def test_all_are_listed() -> None:
    page = (EXAMPLES.parent / "docs" / "notebooks.md").read_text()
    assert len(NOTEBOOKS) == 4
    for path in NOTEBOOKS:
        assert f"(../examples/{path.name})" in page

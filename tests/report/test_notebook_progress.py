"""Progress in the kernel of a notebook, and in a process without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import resnetkit


def run(folder: Path, *sources: str) -> list[list[Any]]:
    """The outputs of cells, run in order by a kernel in ``folder``."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    book = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(
        book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=40"],
    )  # fmt: skip
    client.execute(env={**os.environ, "IPYTHONDIR": str(folder / ".ipython")})
    return [cell.outputs for cell in book.cells]


def printed(outputs: list[Any], name: str = "stdout") -> str:
    return "".join(one.text for one in outputs if one.get("name") == name)


def bars(outputs: list[Any]) -> list[Any]:
    shown = [one for one in outputs if "data" in one]
    return [one for one in shown if "resnetkit-progress" in one.data.get("text/html", "")]


@pytest.mark.slow
def test_a_kernel_shows_bars_and_lines(tmp_path: Path) -> None:
    setup, train, resumed, silent, evaluate, to_file, iterate = run(
        tmp_path,
        "import resnetkit, warnings\nfrom resnetkit.report.console import notebook_bar\n"
        "notebook_bar.INTERVAL = 0",
        "result = resnetkit.train('digits', 'resnet20', out='run', epochs=2, threads=1)\nresult",
        "resnetkit.resume('run').best.epoch",
        "result = resnetkit.train('digits', resnetkit.network('resnet20', depths=(1, 1, 1)),\n"
        "                         out='quiet', epochs=1, threads=1, progress=False)",
        "resnetkit.evaluate('run/best.safetensors', 'digits', split='test', engine='torch');",
        "from sklearn.datasets import load_digits\nfrom PIL import Image\n"
        "import numpy as np\nfrom pathlib import Path\nPath('p').mkdir()\n"
        "for n, image in enumerate(load_digits().images[:30]):\n"
        "    Image.fromarray((image * 15).astype(np.uint8)).save(f'p/{n:02}.png')\n"
        "resnetkit.predict_to_file('run/best.safetensors', 'p', 'found.csv', engine='torch')",
        "from resnetkit.report.console.progress import track\n"
        "print(list(track(range(40))) == list(range(40)))",
    )
    assert setup == []
    assert [line.split()[:2] for line in printed(train).splitlines()] == [
        ["resnet20,", "269,434"], ["images:", "1169"], ["epoch", "1/2"], ["epoch", "2/2"],
    ]  # fmt: skip
    (bar,) = bars(train)
    assert "images/s" in bar.data["text/plain"]
    assert "<progress" not in bar.data["text/html"], "at the end the text stays"
    assert train[-1].data["text/plain"] == "<Result: resnet20 on digits: 2 epochs>"
    assert train[-1].data["text/html"].startswith('<div class="resnetkit">')
    assert resumed[-1].data["text/plain"] in ("1", "2")
    assert silent == []
    (bar,) = bars(evaluate)
    assert bar.data["text/plain"].startswith("359 images in 0:0")
    (bar,) = bars(to_file)
    assert bar.data["text/plain"].startswith("30 images in ")
    assert printed(iterate) == "True\n"
    for outputs in (train, resumed, evaluate, to_file, iterate):
        assert printed(outputs, "stderr") == ""


def test_a_bar_moves_and_warnings_are_lines(tmp_path: Path) -> None:
    """The states that a bar has while it runs, and what a run says."""
    (_, states, warned) = run(
        tmp_path,
        "import resnetkit",
        "import IPython.display, time\nfrom resnetkit.report.console import notebook_bar\n"
        "notebook_bar.INTERVAL = 0.05\n"
        "states, update = [], IPython.display.DisplayHandle.update\n"
        "def noted(self, found, **rest):\n    states.append(found['text/html'])\n"
        "    return update(self, found, **rest)\n"
        "IPython.display.DisplayHandle.update = noted\n"
        "from resnetkit import display\n"
        "for _ in display.track(range(12)):\n    time.sleep(0.03)\n"
        "print(len([s for s in states if 'max=\"12\"' in s and 'left' in s]) >= 3, states[-1])",
        "with display.training(None) as shown:\n    shown.warn('a <new> classifier')",
    )
    assert printed(states).startswith("True ")
    assert "12 images in 0:00" in printed(states)
    assert printed(warned) == "resnetkit: a <new> classifier\n"


def test_without_a_notebook_nothing_is_shown_unless_asked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network = resnetkit.network("resnet20", depths=(1, 1, 1))
    given: dict[str, Any] = {"out": tmp_path / "run", "epochs": 1, "threads": 1}
    resnetkit.train("digits", network, **given)
    assert capfd.readouterr() == ("", "")
    resnetkit.train("digits", network, **given, overwrite=True, progress=True)
    out, err = capfd.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["resnet20,", "images:", "epoch"]
    assert err == ""


def test_colour_is_forced_elsewhere_only() -> None:
    """A kernel sets ``FORCE_COLOR``, and rich would show each line as HTML there."""
    code = "from resnetkit.report.console.lines import say; say('a', 'bold')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "FORCE_COLOR": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "\x1b[" in done.stdout

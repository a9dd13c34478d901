"""Runs the notebooks of this folder and writes their outputs: ``execute.py [NAME ...]``.

Each runs in an empty folder, with a kernel of this Python. ``tests/test_examples.py`` compares the
outputs with those kept; those of a cell with the tag ``varies`` (times, accuracies) differ by run.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parent
#: Seconds that a cell may take.
TIMEOUT = 300


def execute(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook at ``path``, run in ``folder``. Raises ``CellExecutionError`` if a cell does."""
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(
        book,
        timeout=TIMEOUT,
        kernel_name="python3",
        extra_arguments=["--log-level=40"],  # no warning that the connection is local
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    # Settings and history of the user's own IPython stay out.
    own = {"IPYTHONDIR": str(folder / ".ipython"), "RESNETKIT_CACHE": str(folder / ".cache")}
    client.execute(env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **own})
    # The kernel adds the version of Python.
    book.metadata["language_info"] = {"name": "python"}
    return book


def main() -> None:
    names = sys.argv[1:] or sorted(path.stem for path in EXAMPLES.glob("*.ipynb"))
    for name in names:
        path = EXAMPLES / f"{name.removesuffix('.ipynb')}.ipynb"
        with tempfile.TemporaryDirectory() as folder:
            book = execute(path, Path(folder))
        nbformat.write(book, path)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()

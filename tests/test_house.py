"""The house beside import-linter's contracts: what a description loads, and the size of files."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import resnetkit

ROOT = Path(resnetkit.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import resnetkit.architecture.explanation", "numpy torch rich"),
        ("import resnetkit; print(resnetkit.explain('resnet50_deep', 473))", "numpy torch rich"),
        ("import resnetkit; resnetkit.network('resnet50'); resnetkit.catalog()", "numpy torch"),
        ("from resnetkit.cli.main import main; main(['explain', 'resnet50'])", "numpy torch"),
        ("import resnetkit; resnetkit.compare('resnet50', 'resnet18')", "numpy torch rich"),
        ("from resnetkit.cli.main import main; main('compare resnet18 resnet34'.split())", "numpy"),
        ("from resnetkit.cli.main import main; main(['catalog'])", "numpy torch"),
        (
            "from resnetkit.cli.main import main; main('explain resnet50 --format html'.split())",
            "numpy torch",
        ),
    ],
)
def test_describing_loads_nothing_heavy(statement: str, forbidden: str) -> None:
    check = (
        f"{statement}\nimport sys\n"
        f"came = [name for name in '{forbidden}'.split() if name in sys.modules]\n"
        "assert not came, came"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_files_stay_small() -> None:
    long = {p.name: n for p in FILES if (n := len(p.read_text().splitlines())) > 400}
    assert not long, f"asking to be two rooms: {long}"


def test_only_the_catalogue_has_depths() -> None:
    for path in sorted((ROOT / "architecture").glob("*.py")):
        if path.name in ("families.py", "option_fields.py"):
            continue
        numbers = [
            tuple(element.value for element in node.elts)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Tuple)
            and len(node.elts) >= 3
            and all(isinstance(e, ast.Constant) and type(e.value) is int for e in node.elts)
        ]
        assert not numbers, f"{path} has {numbers}"


def test_parameters_are_few() -> None:
    """Longer lists are options in a class; the public functions and classes excepted."""
    for path in FILES:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        classes = [n for n in nodes if isinstance(n, ast.ClassDef) and n.name in resnetkit.__all__]
        public = [n for one in classes for n in one.body if getattr(n, "name", "") == "__init__"]
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node not in public:
                given = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                count = len([one for one in given if one.arg not in ("self", "cls")])
                assert count <= 8 or node.name in resnetkit.__all__, f"{path}: {node.name}"

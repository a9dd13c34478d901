"""The house: which room may use which, and what describing a network may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import resnetkit

ROOT = Path(resnetkit.__file__).parent
#: Floors from the ground up; a room is a folder or a file. CONTRIBUTING.md tells why.
FLOORS = (
    ("errors",),
    ("documents",),
    ("architecture", "cache", "certainty", "files", "racing"),
    ("preprocess",),
    ("images", "module", "checkpoints"),
    ("engines", "proof", "writing"),
    ("prediction", "delivery"),
    ("bundle", "results"),
    ("loading",),
    ("conversion", "verification"),
    ("fetching", "export"),
    ("bench", "evaluation", "server"),
    ("training", "trial"),
    ("views",),
    ("cli",),
)
#: The package's own face and its two-line entry point stand outside the house.
OUTSIDE = ("__init__", "__main__")


def floor_of(name: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if name in rooms:
            return number
    raise AssertionError(f"the room {name!r} is on no floor; add it to FLOORS")


def imports(path: Path) -> set[str]:
    """The resnetkit modules that a file imports, wherever in the file it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "resnetkit"}


FILES = [p for p in sorted(ROOT.rglob("*.py")) if p.relative_to(ROOT).parts[0][:-3] not in OUTSIDE]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_never_run_up(path: Path) -> None:
    own = path.relative_to(ROOT).with_suffix("").parts
    for name in imports(path):
        parts = tuple(name.split(".")[1:])
        if parts == ("__version__",):
            continue
        assert parts[0] == own[0] or floor_of(parts[0]) < floor_of(own[0]), (
            f"{path} imports {name}, which is above or beside it"
        )


def test_no_command_imports_another() -> None:
    from resnetkit.cli.main import COMMANDS

    for command in COMMANDS:
        for name in imports(ROOT / "cli" / f"{command}.py"):
            parts = name.split(".")
            if parts[1] == "cli":
                assert parts[2] not in COMMANDS, f"cli/{command}.py imports {name}"


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import resnetkit.architecture.table", "numpy torch rich"),
        ("import resnetkit; print(resnetkit.explain('resnet50_deep', 473))", "numpy torch rich"),
        ("import resnetkit; resnetkit.network('resnet50'); resnetkit.catalog()", "numpy torch"),
        ("from resnetkit.cli.main import main; main(['explain', 'resnet50'])", "numpy torch"),
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
        if path.name in ("families.py", "options.py"):
            continue
        numbers = [
            tuple(element.value for element in node.elts)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Tuple)
            and len(node.elts) >= 3
            and all(isinstance(e, ast.Constant) and type(e.value) is int for e in node.elts)
        ]
        assert not numbers, f"{path} has {numbers}"

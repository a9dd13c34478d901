"""The files around the code: versions, CI, pre-commit, and the documentation site."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import resnetkit
from resnetkit.report.environment import PACKAGES

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]


def test_one_version() -> None:
    assert PROJECT["version"] == resnetkit.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == resnetkit.__version__
    assert citation["license"] == PROJECT["license"]
    assert f"## {resnetkit.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_all_has_every_extra() -> None:
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    named = set(re.findall(r"\w+", everything.partition("[")[2]))
    assert named == set(extras) - {"all", "docs", "test"}
    page = (ROOT / "docs" / "install.md").read_text()
    assert all(f"| `{name}` |" in page for name in named | {"all"})


def test_contributing_has_the_floors_of_the_contract() -> None:
    contract = SETTINGS["tool"]["importlinter"]["contracts"][0]["layers"]
    floors = [set(layer.split(" | ")) for layer in reversed(contract)]
    table = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([^|]*) \|", table, re.M)
    found = {int(floor): set(re.findall(r"`(\w+)", names)) for floor, names in rows}
    assert found == dict(enumerate(floors, 1))


def test_messages_name_the_extra_that_has_the_package() -> None:
    extras = PROJECT["optional-dependencies"]
    for package, extra in PACKAGES.items():
        wanted = package.replace("_", "-").lower()
        named = [re.split(r"[\[>]", one)[0].replace("_", "-").lower() for one in extras[extra]]
        assert wanted in named, f"{package} is not in [{extra}]"


@pytest.mark.parametrize("path", [".github/workflows/ci.yml", ".gitlab-ci.yml"])
def test_ci_calls_targets_of_the_makefile(path: str) -> None:
    targets = set(re.findall(r"(?m)^(\w+):", (ROOT / "Makefile").read_text()))
    text = (ROOT / path).read_text()
    assert yaml.safe_load(text)
    called = set(re.findall(r"make (\w+)", text))
    assert called >= {"test", "slow", "docs"}
    assert called <= targets


def test_pre_commit_runs_the_linters_of_make_test() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text()
    for hook in hooks:
        tool = hook["entry"].split()[0].rpartition("/")[2]
        assert f"$(VENV)/bin/{tool}" in makefile


def commands(folder: Path, **scripts: str) -> dict[str, str]:
    """An environment in which these commands write their arguments to ``folder / called``."""
    (folder / "bin").mkdir()
    for name, script in scripts.items():
        file = folder / "bin" / name
        file.write_text(f'#!/bin/sh\necho {name} "$@" >> {folder}/called\n{script}\n')
        file.chmod(0o755)
    return {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("", 1), ("y", 0), (None, 0)])
def test_system_packages_are_asked_for(answer: str | None, code: int, tmp_path: Path) -> None:
    environment = commands(tmp_path, **{"apt-get": ""})
    controller, terminal = pty.openpty()
    os.write(controller, f"{answer}\n".encode())
    done = subprocess.run(
        [ROOT / ".ci" / "system_packages", "g++"], env=environment, capture_output=True, text=True,
        check=False, stdin=subprocess.DEVNULL if answer is None else terminal,
    )  # fmt: skip
    os.close(controller)
    os.close(terminal)
    assert done.returncode == code
    assert "g++" in done.stdout
    called = tmp_path / "called"
    wanted = "" if code else "apt-get update\napt-get install -y g++\n"
    assert (called.read_text() if called.exists() else "") == wanted


@pytest.mark.parametrize(
    ("make", "seconds", "code"),
    [("", "60", 0), ("[ $1 != slow ]", "60", 1), ("[ $1 != slow ] || exec sleep 60", "1", 124),
     ("[ $1 != test ]", "60", 1)],
    ids=["passed", "slow failed", "slow unfinished", "test failed"],
)  # fmt: skip
def test_ci_fails_with_what_it_runs(make: str, seconds: str, code: int, tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    environment = {**commands(tmp_path, make=make), "CI_SECONDS": seconds}
    done = subprocess.run([tmp_path / ".ci" / "run"], env=environment, check=False)
    assert done.returncode == code
    called = (tmp_path / "called").read_text().split("\n")[:-1]
    assert called == ["make test", "make demo", "make slow"][: 1 if "test" in make else 3]


@pytest.mark.slow
def test_the_site(tmp_path: Path) -> None:
    """It builds without a broken link, has every public name, and asks no other server."""
    subprocess.run(
        [sys.executable, ROOT / "docs" / "copy_pages.py", tmp_path / "pages"], check=True
    )
    config = (ROOT / "mkdocs.yml").read_text().replace("build/docs", str(tmp_path / "pages"))
    config = config.replace("build/site", str(tmp_path / "site"))
    config = config.replace("[src]", f"[{ROOT / 'src'}]").replace(
        "docs/fence_examples.py", str(ROOT / "docs" / "fence_examples.py")
    )
    (tmp_path / "mkdocs.yml").write_text(config)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--config-file",
         tmp_path / "mkdocs.yml"],
        capture_output=True, text=True, check=False, env={"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site" / "reference" / "index.html").read_text()
    for name in resnetkit.__all__:
        assert name.startswith("_") or f'id="resnetkit.{name}"' in reference, name
    for page in (tmp_path / "site").rglob("index.html"):
        fetched = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)', page.read_text()
        )
        assert not fetched, page

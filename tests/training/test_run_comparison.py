"""Runs side by side: sorted, with what differs, and with damaged ones named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import resnetkit
from resnetkit.cli.main import main
from resnetkit.errors import InputError
from resnetkit.files import write_text
from resnetkit.training.epoch_log import read_log, write_log
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run import run_recipe
from resnetkit.training.run_comparison import compare_runs

SMALL = resnetkit.network("resnet20", depths=(1, 1), widths=(8, 16), stem_widths=(8,))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, as it is and with another recipe and log; one cut short, three damaged."""
    root = tmp_path_factory.mktemp("runs")
    recipe = make_recipe(model=SMALL, size=8, epochs=2, batch_size=256, precision="fp32")
    run_recipe(recipe, root / "good")
    slow = root / "below" / "slow"
    shutil.copytree(root / "good", slow)
    write_text(slow / "recipe.toml", recipe.override(lr=1e-6, warmup=0.0).to_toml())
    write_log(slow, [replace(row, validation_accuracy=0.05) for row in read_log(slow)])
    for name in ("short", "no recipe", "no log", "no bundle"):
        shutil.copytree(root / "good", root / name)
    rows = read_log(root / "good")
    write_log(root / "short", rows[:1])
    (root / "short" / "best.safetensors").unlink()
    (root / "no recipe" / "recipe.toml").write_text("epochs = [")
    (root / "no log" / "log.jsonl").write_text("{}\n")
    (root / "no bundle" / "best.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{")
    (root / "just a folder").mkdir()
    return root


def test_runs_are_compared(runs: Path) -> None:
    found = compare_runs(runs)
    assert {run.name for run in found.runs} == {"good", "below/slow", "short"}
    assert set(found.damaged) == {"no recipe", "no log", "no bundle"}
    best = [run.validation or 0.0 for run in found.runs]
    assert best == sorted(best, reverse=True)
    by_name = {run.name: run for run in found.runs}
    good, short = by_name["good"], by_name["short"]
    rows = read_log(runs / "good")
    measured = resnetkit.load(runs / "good" / "best.safetensors").measured
    assert (good.finished, good.done, good.test) == (True, 2, measured["test"]["accuracy"])
    assert good.validation == measured["validation"]["accuracy"]
    assert good.seconds == rows[0].seconds + rows[1].seconds
    assert (short.finished, short.done, short.test) == (False, 1, None)
    differences = found.differences()
    assert list(differences) == ["lr", "warmup"]
    slow = [run.name for run in found.runs].index("below/slow")
    assert differences["lr"][slow] == 1e-6


def test_a_network_differs_by_its_options(runs: Path) -> None:
    found = compare_runs(runs)
    one = found.runs[0]
    network = SMALL.override(depths=(2, 1), num_classes=10, in_chans=1)
    other = replace(one, recipe=replace(one.recipe, network=network))
    differences = replace(found, runs=(one, other)).differences()
    assert differences["network.depths"] == [[1, 1], [2, 1]]
    assert not any(name.startswith("network.options") for name in differences)


def test_on_the_command_line(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(runs)]) == 1
    output, errors = capsys.readouterr()
    head, *lines = output.splitlines()
    assert head.split() == ["run", "validation", "test", "epochs", "time", "state", "lr", "warmup"]
    assert {line.split()[0] for line in lines[:3]} == {"good", "below/slow", "short"}
    assert "unfinished" in output
    assert errors.count("resnetkit: skipped no ") == 3
    assert len(errors.splitlines()) == 3
    assert main(["runs", str(runs / "good"), "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (row,) = document["runs"]
    assert (row["run"], row["epochs"], row["recipe"]) == ("good", {"done": 2, "of": 2}, {})
    pages = runs / "just a folder"
    for ending, start in ((".html", "<!DOCTYPE html>"), (".json", "{"), (".txt", "run ")):
        assert main(["runs", str(runs), "--out", str(pages / f"all{ending}")]) == 1
        assert (pages / f"all{ending}").read_text().startswith(start)
    assert (pages / "all.txt").read_text() == output
    assert json.loads((pages / "all.json").read_text())["damaged"]
    assert "no log is left out: no log/log.jsonl is damaged" in (pages / "all.html").read_text()
    assert main(["runs", str(runs), "--out", str(pages / "all.csv")]) == 2
    assert "all.csv has no known ending" in capsys.readouterr().err
    assert main(["runs", str(runs), "--format", "html"]) == 1
    assert capsys.readouterr().out.startswith("<!DOCTYPE html>")
    assert main(["runs", str(runs / "just a folder")]) == 2
    assert main(["runs", str(runs / "nowhere")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [("no run" in line, "does not exist" in line) for line in errors] == [
        (True, False),
        (False, True),
    ]


def test_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not a folder"):
        compare_runs(tmp_path / "file")

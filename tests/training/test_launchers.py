"""Processes that torchrun has started wrongly, or that another launcher has started."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnetkit.cli import messages
from resnetkit.cli.main import main

TINY = ["train", "digits", "--depths", "1,1", "--widths", "8,16", "--stem-widths", "8"]
TINY += ["--size", "8", "--epochs", "1", "--threads", "1", "--precision", "fp32"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--local-rank=1", *TINY], "an argument of torch.distributed.launch; use torchrun"),
        ([*TINY, "--sise", "3"], "unrecognized arguments: --sise 3"),
        ([*TINY, "--metrics-port", "0"], "--metrics-port is 0"),
        ([*TINY, "--core-price=-1"], "--core-price is -1"),
        ([*TINY, "--checkpoint-minutes=-1"], "--checkpoint-minutes is -1"),
        ([*TINY, "--format", "json"], "--format requires --find-lr"),
        ([*TINY, "--find-lr"], "--find-lr has a single process; start it without torchrun"),
    ],
)
def test_an_error_in_the_arguments_is_told_once(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By rank 0; rank 1 waits until torchrun ends it."""
    monkeypatch.chdir(tmp_path)
    waits = list[float]()
    monkeypatch.setattr(messages.time, "sleep", waits.append)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not waits
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert waits == [messages._ENDED]
    assert capsys.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_a_recipe_is_shown_once(
    rank: str, lines: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("RANK", rank)
    assert main([*TINY, "--show-recipe"]) == 0
    assert capsys.readouterr().out.count("batch_size = ") == lines


def test_the_variables_of_torchrun_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main([*TINY, "--out", str(run)]) == 2
    assert capsys.readouterr().err == (
        "resnetkit: WORLD_SIZE is 2, and torchrun has not started this process; use torchrun, or "
        "unset WORLD_SIZE to train with one process\n"
    )
    assert not run.exists()


@pytest.mark.parametrize(
    ("launcher", "variable"),
    [
        ("srun", "SLURM_STEP_NUM_TASKS"),
        ("mpirun", "OMPI_COMM_WORLD_SIZE"),
        ("mpiexec", "PMI_SIZE"),
    ],
)
def test_tasks_of_another_launcher(
    launcher: str,
    variable: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They may be meant to be runs of their own, so that is only said."""
    words, said = [*TINY, "--out", str(tmp_path / "run")], f"{launcher} has started 2 tasks, and "
    monkeypatch.setenv(variable, "2")
    assert main(words) == 0
    assert capsys.readouterr().err.count(said) == 1
    assert main(words) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert said in first
    assert "already contains a run" in second
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    assert said in capsys.readouterr().err
    # As torchrun sets it with that many machines.
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    assert main(words) == 2
    assert said not in capsys.readouterr().err

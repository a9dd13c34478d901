"""Hours of cores and GPUs and their price, of a run that trains."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from resnetkit.cli.main import main
from resnetkit.errors import InputError
from resnetkit.report.console import training
from resnetkit.report.console.training import Printed
from resnetkit.report.cost import Cost, Prices
from resnetkit.training.recipe_defaults import make_recipe

RECIPE = make_recipe("digits", epochs=1, threads=2)
PRICES = Prices(core_price=0.9, gpu_price=3)
TINY = ["digits", "--depths", "1,1", "--widths", "8,16", "--stem-widths", "8", "--epochs", "1"]


def test_cores_and_gpus() -> None:
    cores = PRICES.of_training(RECIPE, 3)
    assert cores == Cost(unit="core", count=6, price=0.9)
    assert (cores.hours(1800), cores.price_of(1800)) == (3, pytest.approx(2.7))
    assert cores.text(1800) == "3 core hours for 2.7"
    on_gpus = RECIPE.override(device="cuda")
    assert PRICES.of_training(on_gpus, 4) == Cost(unit="GPU", count=4, price=3)
    unknown = Prices(core_price=0.9).of_training(on_gpus, 4)
    assert unknown.text(3600) == "4 GPU hours"
    assert math.isnan(unknown.price_of(3600))


@pytest.mark.parametrize("price", [-1, math.nan, math.inf])
def test_a_price_that_is_none(price: float) -> None:
    with pytest.raises(InputError, match=r"gpu_price is .*; it must be a number from 0"):
        Prices(gpu_price=price)


def test_the_price_of_another_device() -> None:
    PRICES.check("cpu")
    PRICES.check("cuda")
    Prices().check("cuda")
    with pytest.raises(InputError, match=r"is cuda, of which core_price is not.*; give gpu_price"):
        Prices(core_price=0.9).check("cuda")


@pytest.mark.parametrize(
    ("processes", "restarts", "prices", "shown"),
    [
        (1, 0, Prices(), ""),
        (1, 0, PRICES, "0:40 since the start, 0.0222 core hours for 0.02\n"),
        (3, 0, Prices(), "0:40 since the start, 0.0667 core hours\n"),
        (
            3,
            1,
            PRICES,
            "0:40 since this start, 0.0667 core hours for 0.06; earlier ones not counted\n",
        ),
    ],
)
def test_the_line_at_the_end(
    processes: int,
    restarts: int,
    prices: Prices,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(restarts))
    now = [10.0]
    monkeypatch.setattr(training.time, "perf_counter", lambda: now[0])
    printed = Printed(prices)
    printed.start(RECIPE, {"train": 500}, [])
    capsys.readouterr()
    now[0] = 50.0
    printed.show_cost()
    assert capsys.readouterr().out == shown


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A price is not part of the recipe, and may be another when the run is resumed."""
    words, run = ["train", *TINY, "--threads", "1"], str(tmp_path / "run")
    assert main([*words, "--out", run, "--gpu-price", "3", "--device", "cpu"]) == 2
    assert capsys.readouterr().err == (
        "resnetkit: the device is cpu, of which --gpu-price is not the price; give --core-price\n"
    )
    assert main([*words, "--out", run, "--core-price", "-1"]) == 2
    assert "--core-price is -1; it must be a number from 0" in capsys.readouterr().err
    assert not Path(run).exists()
    assert main([*words, "--out", run, "--core-price", "0.9", "--device", "cpu"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"0:\d\d since the start, \S+ core hours for \S+", last), last
    assert "price" not in (tmp_path / "run" / "recipe.toml").read_text()
    assert main(["train", "--resume", run, "--gpu-price", "3"]) == 2
    assert "of which --gpu-price is not the price; give --core-price" in capsys.readouterr().err
    assert main(["train", "--resume", run, "--core-price", "2"]) == 0

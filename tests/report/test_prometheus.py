"""Metrics of a run that trains, as Prometheus reads them."""

from __future__ import annotations

import math
import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import resnetkit
from photographs import write_classes
from resnetkit.cli.main import main
from resnetkit.training.callbacks import Callback, RunOptions, SilentCallback
from resnetkit.training.epoch_log import EpochLog

TINY = resnetkit.network("resnet20", depths=(1, 1), widths=(8, 16), stem_widths=(8,))


@pytest.fixture
def port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def scraped(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        sample.name.removeprefix("resnetkit_train_"): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Scraper(Callback):
    """Scrapes after each step and each epoch."""

    def __init__(self, port: int) -> None:
        self.port, self.steps, self.rows = port, list[dict[str, float]](), list[EpochLog]()
        self.epochs = list[dict[str, float]]()

    def images(self, count: int) -> None:
        self.steps.append(scraped(self.port))

    def epoch(self, row: EpochLog) -> None:
        self.rows.append(row)
        self.epochs.append(scraped(self.port))


def test_a_run_that_is_scraped(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As torchrun sets it in a process that it has restarted.
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    data = write_classes(tmp_path / "data", 12, classes=("brick", "coffee"))
    (data / "brick" / "03.jpg").write_bytes(b"no image")
    scraper = Scraper(port)
    metrics = resnetkit.PrometheusCallback(port, host="127.0.0.1", core_price=0.9)
    resnetkit.train(
        data,
        TINY,
        out=tmp_path / "run",
        size=16,
        epochs=2,
        batch_size=8,
        threads=1,
        validation=0.25,
        test=0.0,
        run_options=RunOptions(max_bad=0.2),
        callbacks=[SilentCallback(), metrics, scraper],
    )
    total = len(scraper.steps) // 2
    first, last = scraper.steps[0], scraper.steps[-1]
    assert (first["epochs"], first["epoch"], first["step"], first["images_total"]) == (2, 1, 1, 8)
    assert (last["epoch"], last["step"], last["unreadable_images"]) == (2, total, 1)
    assert (last["processes"], last["restarts"]) == (1, 2)
    assert last["images_total"] == 2 * scraper.steps[total - 1]["images_total"]
    assert last["images_per_second"] > 0
    assert 0 < first["core_hours"] < last["core_hours"] < 1
    assert last["cost"] == pytest.approx(0.9 * last["core_hours"])
    assert math.isnan(last["gpu_hours"])
    for values, row in zip(scraper.epochs, scraper.rows, strict=True):
        assert values["loss"] == row.loss
        assert values["accuracy"] == row.accuracy
        assert values["data_wait_ratio"] == row.waited
        assert values["validation_loss"] == row.validation_loss
        assert values["validation_accuracy"] == row.validation_accuracy
    assert [values["epoch"] for values in scraper.epochs] == [2, 2]
    with pytest.raises(OSError, match="refused"):
        scraped(port)


def test_a_port_that_cannot_be_opened(
    port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = ["train", "digits", "--epochs", "1", "--out", str(run), "--metrics-port"]
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", port))
        taken.listen()
        assert main([*words, str(port)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"resnetkit: --metrics-port is {port}, which cannot be opened (Address already in use); "
        "give another one"
    )
    assert main([*words, "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "resnetkit: --metrics-port is 0; it must be from 1 to 65535"
    assert not run.exists()

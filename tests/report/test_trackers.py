"""MLflow and Weights & Biases: what is logged is read back with their own libraries, offline."""

from __future__ import annotations

import json
import os
import pty
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import PIL.Image
import pytest
import wandb
from wandb.proto import wandb_internal_pb2

import resnetkit
from resnetkit.cli.main import main
from resnetkit.report.callbacks.tracker import without_password
from resnetkit.training.callbacks import Callback
from resnetkit.training.epoch_log import EpochLog

SMALL = resnetkit.network("resnet20", depths=(1, 1), widths=(8, 16), stem_widths=(8,))
WORDS = ["train", "digits", "--depths", "1,1", "--widths", "8,16", "--stem-widths", "8"]
WORDS += ["--size", "8", "--epochs", "3", "--batch-size", "256", "--threads", "1"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No usage statistics, no network, and everything in the test's folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield
    wandb.teardown()


class Stopped(Callback):
    """Ctrl-C after an epoch; keeps warnings."""

    def __init__(self, epochs: int = -1) -> None:
        self.left = epochs
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def epoch(self, row: EpochLog) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def train(*callbacks: Callback, **changed: Any) -> resnetkit.training.Result:
    options = {"size": 8, "epochs": 3, "batch_size": 256, "threads": 1, **changed}
    return resnetkit.train("digits", SMALL, out="run", callbacks=callbacks, **options)


def mlflow_runs(folder: str) -> tuple[mlflow.MlflowClient, list[Any]]:
    uri = f"sqlite:///{Path(folder).resolve()}/mlflow.db"
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("resnetkit")
    return client, list(client.search_runs([experiment.experiment_id]))


def wandb_records(folder: Path) -> list[Any]:
    """The records of an offline run: LevelDB's log format, in blocks of 32 KiB."""
    wandb.teardown()  # its process may still be writing
    [path] = folder.glob("run-*.wandb")
    data, place, whole, records = path.read_bytes(), 7, b"", []
    while len(data) - place >= 7:
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            records.append(record)
            whole = b""
    return records


def wandb_history(records: list[Any]) -> list[dict[str, Any]]:
    return [
        {
            "/".join(item.nested_key) or item.key: json.loads(item.value_json)
            for item in r.history.item
        }
        for r in records
        if r.WhichOneof("record_type") == "history"
    ]


def wandb_summary(records: list[Any]) -> dict[str, Any]:
    return {
        "/".join(item.nested_key) or item.key: json.loads(item.value_json)
        for r in records
        if r.WhichOneof("record_type") == "summary"
        for item in r.summary.update
    }


def test_mlflow_gets_one_run_that_is_stopped_and_continued() -> None:
    with pytest.raises(KeyboardInterrupt):
        train(resnetkit.MLflowCallback("logged"), Stopped(2))
    _, [run] = mlflow_runs("logged")
    assert run.info.status == "KILLED"
    result = resnetkit.resume("run", callbacks=[resnetkit.MLflowCallback("logged")])
    client, [run] = mlflow_runs("logged")
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    params = run.data.params
    assert params["model"] == "resnet20"
    assert params["lr"] == str(result.recipe.optimizer.lr)
    assert params["shift"] == "1"
    for name, field in (("loss/training", "loss"), ("accuracy/validation", "validation_accuracy")):
        history = client.get_metric_history(run.info.run_id, name)
        assert [(m.step, m.value) for m in sorted(history, key=lambda m: m.step)] == [
            (row.epoch, getattr(row, field)) for row in result.rows
        ]
    low, high = result.test.accuracy_interval
    assert run.data.metrics["test/accuracy"] == result.test.accuracy
    assert run.data.metrics["test/accuracy low"] == low < high
    assert run.data.metrics["test/accuracy high"] == high
    names = [file.path for file in client.list_artifacts(run.info.run_id)]
    assert names == ["best.safetensors"]
    path = client.download_artifacts(run.info.run_id, "best.safetensors", ".")
    assert resnetkit.load(path).digest == resnetkit.load("run/best.safetensors").digest

    # A finished run has nothing new; another place gets all of it.
    resnetkit.resume("run", callbacks=[resnetkit.MLflowCallback("logged")])
    assert len(client.get_metric_history(run.info.run_id, "loss/training")) == 3
    resnetkit.resume("run", callbacks=[resnetkit.MLflowCallback("other")])
    client, [run] = mlflow_runs("other")
    assert len(client.get_metric_history(run.info.run_id, "loss/training")) == 3
    assert run.data.metrics["test/accuracy"] == result.test.accuracy


def test_wandb_gets_one_run_that_is_stopped_and_continued() -> None:
    with pytest.raises(KeyboardInterrupt):
        train(resnetkit.WandbCallback("team/digits"), Stopped(2))
    assert wandb.run is None
    time.sleep(1)  # folders of offline runs are named by the second
    result = resnetkit.resume("run", callbacks=[resnetkit.WandbCallback("team/digits")])
    first, second = (wandb_records(path) for path in sorted(Path("wandb").glob("offline-run-*")))
    runs = [[r.run for r in records if r.run.run_id] for records in (first, second)]
    assert {run.run_id for found in runs for run in found} == {runs[0][0].run_id}
    assert (runs[0][0].entity, runs[0][0].project) == ("team", "digits")
    assert runs[0][0].display_name == "run"
    config = {item.key: json.loads(item.value_json) for item in runs[1][0].config.update}
    assert config["lr"] == result.recipe.optimizer.lr
    history = [*wandb_history(first), *wandb_history(second)]
    assert [point["_step"] for point in history] == [1, 2, 3]
    assert [point["loss/training"] for point in history] == [row.loss for row in result.rows]
    assert "test/accuracy" not in wandb_summary(first)
    summary = wandb_summary(second)
    assert summary["test/accuracy"] == result.test.accuracy
    assert summary["test/accuracy low"] == result.test.accuracy_interval[0]
    assert summary["best epoch"] == result.best.epoch
    [artifact] = [r.request.log_artifact.artifact for r in second
                  if r.request.HasField("log_artifact")] or [
                  r.artifact for r in second if r.HasField("artifact")]  # fmt: skip
    assert artifact.type == "model"
    assert {e.path for e in artifact.manifest.contents} == {"best.safetensors"}


def test_a_run_of_the_caller_is_used_and_left_open() -> None:
    run = wandb.init(project="sweep")
    run.log({"before": 1.0}, step=50)
    train(resnetkit.WandbCallback())
    assert wandb.run is run
    assert run.config["model"] == "resnet20"
    run.finish()
    [folder] = Path("wandb").glob("offline-run-*")
    points = [point for point in wandb_history(wandb_records(folder)) if "epoch" in point]
    assert [point["epoch"] for point in points] == [1, 2, 3]


@pytest.mark.slow
def test_the_command_logs_to_both(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    assert main([*WORDS, "--out", "run", "--mlflow", "logged", "--wandb", "digits"]) == 0
    errors = capsys.readouterr().err
    assert errors.count("resnetkit: W&B has no API key, so the run is logged offline") == 1
    client, [run] = mlflow_runs("logged")
    names = [file.path for file in client.list_artifacts(run.info.run_id)]
    assert names == ["best.safetensors", "report.html"]
    [folder] = Path("wandb").glob("offline-run-*")
    assert len(wandb_history(wandb_records(folder))) == 3
    assert [run.name for run in resnetkit.compare_runs(".").runs] == ["run"]
    known = json.loads(Path("run/tracking.json").read_text())
    assert known["mlflow"]["run"] == run.info.run_id
    assert known["wandb"]["epochs"] == 3
    # A finished run has no rest.
    assert main(["train", "--resume", "run"]) == 0
    assert "was logged" not in capsys.readouterr().err
    # Logging is not continued unasked: the folder may be somebody else's.
    known["mlflow"]["finished"] = known["wandb"]["finished"] = False
    Path("run/tracking.json").write_text(json.dumps(known))
    assert main(["train", "--resume", "run"]) == 0
    errors = capsys.readouterr().err
    assert "resnetkit: run was logged to MLflow; the rest is not, unless requested" in errors
    assert "resnetkit: run was logged to W&B; the rest is not, unless requested" in errors
    assert main([*WORDS, "--out", "run", "--overwrite"]) == 0
    assert not Path("run/tracking.json").exists()


def test_a_tracker_that_fails_is_said_once_and_gets_the_rest_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    teller = Stopped()
    unreachable = resnetkit.MLflowCallback("http://127.0.0.1:9", teller=teller)
    assert len(train(unreachable).rows) == 3
    [warning] = teller.warnings
    assert warning.startswith("MLflow logging failed: ")
    assert "127.0.0.1" in warning
    assert "\n" not in warning
    assert not Path("run/tracking.json").exists()

    class Blocked(Callback):
        """Makes a file of tracking.json's place in the second epoch, and frees it in the last."""

        def epoch(self, row: EpochLog) -> None:
            place = Path("run/tracking.json")
            if row.epoch == 2:
                place.unlink()
                place.mkdir()
            elif row.epoch == 4:
                place.rmdir()

    teller = Stopped()
    callback = resnetkit.MLflowCallback("logged", teller=teller)
    result = train(Blocked(), callback, overwrite=True, epochs=4)
    assert len(teller.warnings) == 1
    client, [run] = mlflow_runs("logged")
    history = client.get_metric_history(run.info.run_id, "loss/training")
    assert {m.step for m in history} == {1, 2, 3, 4}
    assert run.data.metrics["test/loss"] == result.test.loss


def test_wandb_that_fails_does_not_stop_training() -> None:
    teller = Stopped()
    assert len(train(resnetkit.WandbCallback("what?", teller=teller)).rows) == 3
    assert len(teller.warnings) == 1
    assert teller.warnings[0].startswith("W&B logging failed: ")
    # Without a teller, Python's warnings have it.
    with pytest.warns(UserWarning, match="W&B logging failed"):
        train(resnetkit.WandbCallback("what?"), overwrite=True)


@pytest.mark.slow
def test_wandb_does_not_ask_on_a_terminal(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
    words = [sys.executable, "-m", "resnetkit", *WORDS, "--out", "run", "--wandb", "digits"]
    with subprocess.Popen(
        words, stdin=follower, stdout=follower, stderr=follower, cwd=tmp_path,
        env={**environment, "TERM": "xterm", "WANDB_SILENT": "false"}, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(follower)
        shown = b""
        try:
            while b"Enter your choice" not in shown and (some := os.read(leader, 1 << 16)):
                shown += some
        except OSError:  # the other end is closed
            pass
        finally:
            os.close(leader)
            if b"Enter your choice" in shown:
                process.kill()
    assert process.returncode == 0, shown.decode()
    assert shown.count(b"W&B has no API key, so the run is logged offline") == 1
    assert list(tmp_path.glob("wandb/offline-run-*"))


def test_what_is_uploaded_has_no_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    data = tmp_path / "private" / "pictures"
    for number in range(40):
        path = data / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(path)
    words = ["train", str(data), *WORDS[2:], "--out", "run", "--wandb", "digits"]
    words += ["--batch-size", "8"]
    monkeypatch.setattr(sys, "argv", ["resnetkit", *words])
    assert main(words) == 0
    page = Path("run/report.html").read_text()
    assert "pictures" in page
    assert "private" not in page
    [folder] = Path("wandb").glob("offline-run-*")
    records = wandb_records(folder)
    assert not [r for r in records if b"private/pictures" in r.SerializeToString()]


def test_passwords_are_not_shown() -> None:
    uri = "http://bob:hun@ter2@127.0.0.1:9/x@y"
    assert (
        without_password(f"{uri} and {uri}") == "http://127.0.0.1:9/x@y and http://127.0.0.1:9/x@y"
    )
    teller = Stopped()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        train(resnetkit.MLflowCallback("http://bob:hunter2@127.0.0.1:9", teller=teller), epochs=1)
    [warning] = teller.warnings
    assert "127.0.0.1:9" in warning
    assert "hunter2" not in warning


def test_a_tracker_that_fails_does_not_raise_its_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(train(resnetkit.MLflowCallback("http://127.0.0.1:9")).rows) == 3


def test_an_unreachable_server_does_not_stall_training(monkeypatch: pytest.MonkeyPatch) -> None:
    name, seen = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", []
    monkeypatch.delenv(name, raising=False)

    class Seen(resnetkit.MLflowCallback):
        def _begin(self, *given: Any) -> tuple[str, str]:
            seen.append(os.environ.get(name))
            return super()._begin(*given)

    train(Seen("logged"), epochs=1)
    monkeypatch.setenv(name, "5")
    train(Seen("logged"), epochs=1, overwrite=True)
    assert seen == ["2", "5"]
    monkeypatch.delenv(name)
    assert name not in os.environ


def test_a_request_that_fails_does_not_make_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request after that which makes the run."""
    log_batch, failed = mlflow.MlflowClient.log_batch, []

    def fails_once(self: Any, *given: Any, **named: Any) -> Any:
        if not failed:
            failed.append(named)
            raise ConnectionError("gone")
        return log_batch(self, *given, **named)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", fails_once)
    teller = Stopped()
    train(resnetkit.MLflowCallback("logged", teller=teller))
    assert teller.warnings == ["MLflow logging failed: gone; training continues"]
    client, [run] = mlflow_runs("logged")
    assert run.info.status == "FINISHED"
    assert run.data.params["model"] == "resnet20"
    assert len(client.get_metric_history(run.info.run_id, "loss/training")) == 3


@pytest.mark.parametrize("text", ["{", '{"mlflow": 1}', '{"mlflow": {"run": 1}}'])
def test_a_damaged_record_does_not_stop_training(text: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(Stopped(1))
    Path("run/tracking.json").write_text(text)
    teller = Stopped()
    resnetkit.resume("run", callbacks=[resnetkit.MLflowCallback("logged", teller=teller)])
    [warning] = teller.warnings
    assert "tracking.json is damaged" in warning


@pytest.mark.parametrize(("flag", "package"), [("--mlflow", "mlflow"), ("--wandb", "wandb")])
def test_without_the_library(
    flag: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["train", flag, "there", "--out", "run"]) == 2
    line = capsys.readouterr().err
    assert line.endswith(
        f" logging requires {package}, which is not installed; pip install 'resnetkit[{package}]'\n"
    )
    assert not Path("run").exists()

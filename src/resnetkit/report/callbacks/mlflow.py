"""Callback that logs a run to MLflow."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.errors import check_installed
from resnetkit.report.callbacks.curves import points, results, settings
from resnetkit.report.callbacks.tracker import TrackerCallback, without_password
from resnetkit.training.callbacks import Callback
from resnetkit.training.epoch_log import EpochLog
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.result import Result

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: The name of MLflow's experiment, unless MLFLOW_EXPERIMENT_NAME has one.
EXPERIMENT = "resnetkit"
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


class MLflowCallback(TrackerCallback):
    """Logs a run to MLflow: the recipe's options as parameters, metrics with the epoch as step, the
    test metrics with their intervals, and the bundle and the report as artifacts.

    ``uri`` is a tracking URI, e.g. ``http://127.0.0.1:5000``, or a folder, which gets the database
    ``mlflow.db`` and the folder ``artifacts``; None is MLflow's default (``MLFLOW_TRACKING_URI``).
    ``experiment`` defaults to ``MLFLOW_EXPERIMENT_NAME``, else ``resnetkit``. A resumed run
    continues MLflow's run. A failure of MLflow is reported once, to ``teller``, and does not stop
    training; a request is repeated twice, or ``MLFLOW_HTTP_REQUEST_MAX_RETRIES`` times.

    Raises ``ValueError`` if mlflow is not installed.

    >>> logged = resnetkit.MLflowCallback("mlflow")
    >>> resnetkit.train("digits", out="logged", epochs=1, callbacks=[logged]).best.epoch
    1
    """

    key, title = "mlflow", "MLflow"

    def __init__(
        self,
        uri: str | Path | None = None,
        *,
        experiment: str | None = None,
        teller: Callback | None = None,
    ) -> None:
        super().__init__(teller)
        check_installed("mlflow", "MLflow logging")
        self.uri, self.experiment = uri, experiment
        self._client: MlflowClient | None = None
        self._run = ""

    def _begin(self, recipe: Recipe, record: Mapping[str, Any]) -> tuple[str, str]:
        from mlflow import MlflowClient

        uri, artifacts = (None, None) if self.uri is None else _place(self.uri)
        client = MlflowClient(tracking_uri=uri)
        place = without_password(str(client.tracking_uri))
        if record.get("place") == place:
            run = record["run"]
            client.update_run(run, status="RUNNING")
        else:
            name = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
            found = client.get_experiment_by_name(name)
            number = (
                client.create_experiment(name, artifact_location=artifacts)
                if found is None
                else found.experiment_id
            )
            run = client.create_run(number, run_name=self._folder.resolve().name).info.run_id
        self._client, self._run = client, run
        return place, run

    def _add_settings(self, recipe: Recipe) -> None:
        from mlflow.entities import Param

        assert self._client is not None
        given = {name: value for name, value in settings(recipe).items() if value is not None}
        params = [Param(name, str(value)) for name, value in given.items()]
        self._client.log_batch(self._run, params=params)

    def _add(self, row: EpochLog) -> None:
        self._metrics(points(row), row.epoch)

    def _add_result(self, result: Result, files: list[Path]) -> None:
        assert self._client is not None
        self._metrics(results(result), result.best.epoch)
        for path in files:
            self._client.log_artifact(self._run, str(path))

    def _end(self, *, finished: bool) -> None:
        assert self._client is not None
        self._client.set_terminated(self._run, "FINISHED" if finished else "KILLED")

    def _try(self, log: Callable[[], object]) -> None:
        with _few_retries():
            super()._try(log)

    def _metrics(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        assert self._client is not None
        now = round(time.time() * 1000)
        self._client.log_batch(
            self._run, metrics=[Metric(name, value, now, step) for name, value in values.items()]
        )


@contextmanager
def _few_retries() -> Iterator[None]:
    """MLflow's own number of retries takes minutes, in which training waits."""
    if _RETRIES in os.environ:
        yield
        return
    os.environ[_RETRIES] = "2"
    try:
        yield
    finally:
        del os.environ[_RETRIES]


def _place(uri: str | Path) -> tuple[str, str | None]:
    """The tracking URI, and where artifacts go; None is the tracking server's own place."""
    # A scheme has more letters than a drive.
    if re.match(r"[A-Za-z][\w+.-]+:", str(uri)) or str(uri).startswith("databricks"):
        return str(uri), None
    folder = Path(uri).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{(folder / 'mlflow.db').as_posix()}", (folder / "artifacts").as_uri()

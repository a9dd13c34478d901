"""Callback that serves the progress of a run as metrics for Prometheus."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path

from resnetkit.data.datasets.dataset import Part
from resnetkit.errors import require
from resnetkit.report.cost import Cost, Prices
from resnetkit.report.metrics_server import MetricsServer
from resnetkit.training.callbacks import Callback
from resnetkit.training.epoch_log import EpochLog
from resnetkit.training.recipe.recipe import Recipe

#: The metrics, each with ``resnetkit_train_`` before its name.
METRICS = {
    "epochs": "Epochs of the recipe",
    "epoch": "The current epoch, from 1",
    "step": "Steps of the current epoch since this start",
    "images_per_second": "Training images per second of all processes since this start",
    "data_wait_ratio": "Share of the epoch that the slowest process waited for images",
    "loss": "Mean training loss of the epoch so far",
    "accuracy": "Training accuracy of the epoch so far",
    "validation_loss": "Validation loss of the last epoch",
    "validation_accuracy": "Validation accuracy of the last epoch",
    "unreadable_images": "Images that cannot be read",
    "processes": "Processes that train together",
    "restarts": "Restarts by torchrun on this machine",
    "core_hours": "Threads of all processes times hours of this start; NaN on GPUs",
    "gpu_hours": "GPUs of all processes times hours of this start; NaN on CPUs",
    "cost": "Price of these hours; NaN if the price of one is not given",
}


class PrometheusCallback(Callback):
    """Serves ``http://HOST:PORT/metrics`` while a run trains, in rank 0 of several processes.

    ``host`` is an address of this machine, by default all of them. The metrics are
    ``resnetkit_train_`` and ``epoch``, ``step``, ``images_total``, ``images_per_second``,
    ``data_wait_ratio``, ``loss``, ``accuracy``, ``unreadable_images``, ``processes``, ``restarts``,
    ``core_hours``, ``gpu_hours``, ``cost`` and others, without any name of a file. ``core_price``
    and ``gpu_price`` are those of one core and one GPU for an hour; hours count from when the
    callback is created.

    Raises ``ValueError`` if prometheus_client is not installed or the port is in use, and for a
    price below 0.

    >>> metrics = resnetkit.PrometheusCallback(9109, host="127.0.0.1")
    >>> _ = resnetkit.train("digits", out="served", epochs=1, callbacks=[metrics])
    """

    def __init__(
        self,
        port: int,
        *,
        host: str = "0.0.0.0",
        core_price: float | None = None,
        gpu_price: float | None = None,
    ) -> None:
        self._prices, self._created = (
            Prices(core_price=core_price, gpu_price=gpu_price),
            time.perf_counter(),
        )
        self._cost: Cost | None = None
        self._server = MetricsServer("resnetkit_train_", METRICS, port, host=host)
        client = require("prometheus_client", "serving metrics")
        self._images = client.Counter(
            "resnetkit_train_images",
            "Training images since this start",
            registry=self._server.registry,
        )
        self._epochs, self._seen, self._began = 0, 0, 0.0

    def listen(self) -> None:
        """Start to serve, unless that has been done."""
        self._server.listen()

    def open(self, folder: Path) -> None:
        self.listen()

    def start(
        self, recipe: Recipe, images: Mapping[Part, int], rows: list[EpochLog], done: int = 0
    ) -> None:
        self._epochs, self._seen, self._began = recipe.epochs, 0, time.perf_counter()
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        self._cost = self._prices.of_training(recipe, processes)
        self._server.set(
            epochs=recipe.epochs,
            epoch=len(rows) + 1,
            processes=processes,
            restarts=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
        )
        self._set_cost()
        if rows:
            self._set_validation(rows[-1])

    def so_far(self, loss: float, accuracy: float, waited: float = 0.0) -> None:
        self._server.set(loss=loss, accuracy=accuracy, data_wait_ratio=waited)

    def images(self, count: int) -> None:
        self._seen += count
        self._images.inc(count)
        self._server.add("step", 1)
        self._server.set(
            images_per_second=self._seen / max(1e-9, time.perf_counter() - self._began)
        )
        self._set_cost()

    def unreadable(self, count: int) -> None:
        self._server.set(unreadable_images=count)

    def epoch(self, row: EpochLog) -> None:
        self._server.set(epoch=min(row.epoch + 1, self._epochs), step=0, data_wait_ratio=row.waited)
        self._set_validation(row)
        self._set_cost()

    def close(self) -> None:
        self._server.close()

    def _set_validation(self, row: EpochLog) -> None:
        if row.validation_loss is not None and row.validation_accuracy is not None:
            self._server.set(
                validation_loss=row.validation_loss, validation_accuracy=row.validation_accuracy
            )

    def _set_cost(self) -> None:
        if self._cost is None:
            return
        seconds = time.perf_counter() - self._created
        hours = dict.fromkeys(("core_hours", "gpu_hours"), math.nan)
        hours[f"{self._cost.unit.lower()}_hours"] = self._cost.hours(seconds)
        self._server.set(**hours, cost=self._cost.price_of(seconds))

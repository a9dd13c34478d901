"""What runs on a worker: it opens the model once, and predicts partition after partition."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resnetkit.bundle.opening import open_model
from resnetkit.cluster.partition_folder import PartitionFolder
from resnetkit.cluster.partitions import Partition
from resnetkit.errors import InputError, require
from resnetkit.inference.predictor import PredictOptions, Predictor
from resnetkit.inference.results.parquet import Parquet
from resnetkit.version import __version__

#: Columns of a worker's answers: partition, images, unreadable ones, and the error that ends it.
Batch = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The work of all workers.

    ``plan`` is that of the folder ``out``, ``model`` the name of the model's file, ``paths`` the
    local images, which must be on every machine, and ``few`` as for ``Predictor``.
    """

    version: str
    plan: Mapping[str, Any]
    out: str
    model: str
    paths: tuple[str, ...]
    options: PredictOptions
    few: bool


class PredictionWorker:
    """An actor of Ray Data's ``map_batches``: takes partitions, writes them, returns counts.

    ``files`` is Ray's reference to the model's files, by their names. An ``InputError`` is returned
    as a row, as an exception would be repeated without end.
    """

    def __init__(self, task: Task, files: Any) -> None:
        ray = require("ray", "a worker")
        self._task = task
        self._error = ""
        try:
            self._check()
            self._open(ray.get(files))
        except InputError as error:
            self._error = f"on {_node()}: {error}"

    def __call__(self, batch: Batch) -> Batch:
        """The counts of the partitions of a batch, one row each."""
        rows = [self._done(int(number), str(text)) for number, text in zip(
            batch["number"], batch["partition"], strict=True
        )]  # fmt: skip
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    def _check(self) -> None:
        task = self._task
        if task.version != __version__:
            raise InputError(
                f"resnetkit is {__version__} there, and {task.version} here; install the same"
            )
        self._folder = PartitionFolder(task.out)
        for path in task.paths:
            if not Path(path).exists():
                raise InputError(
                    f"{path} does not exist there; put the images on a disk that all machines "
                    "share, or into object storage"
                )
        self._check_claim()

    def _check_claim(self) -> None:
        if not self._folder.is_claimed_by(self._task.plan):
            raise InputError(
                f"{self._folder.name} is another folder there, or another command took it; give "
                "one on a disk that all machines share, or in object storage"
            )

    def _open(self, files: Mapping[str, bytes]) -> None:
        task = self._task
        # A graph may be read later, so it stays until the worker ends.
        self._copies = tempfile.TemporaryDirectory(prefix="resnetkit-")
        for name, content in files.items():
            Path(self._copies.name, name).write_bytes(content)
        model = open_model(Path(self._copies.name, task.model))
        self._predictor = Predictor(model, task.options)
        engine = self._predictor.engine
        self._layout = Parquet(task.options.output, engine.options.features)

    def _done(self, number: int, text: str) -> dict[str, Any]:
        row: dict[str, Any] = {"number": number, "images": 0, "unreadable": 0, "error": self._error}
        if self._error:
            return row
        try:
            # It is there if this machine had written it and its answer was lost.
            counts = self._folder.counts(number)
            if counts is None:
                images = Partition.from_json(text).images()
                rows = list(self._predictor.predict_part(images, few=self._task.few))
                self._check_claim()
                counts = self._folder.write(number, rows, self._layout)
        except InputError as error:
            return {**row, "error": f"on {_node()}: {error}"}
        return {**row, "images": counts.images, "unreadable": counts.unreadable}


def _node() -> str:
    """The address of this machine in the cluster."""
    return str(require("ray.util", "a worker").get_node_ip_address())

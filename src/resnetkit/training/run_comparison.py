"""Compares runs: results, and differences of their recipes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnetkit.bundle.bundle import document_of
from resnetkit.display import Displayed
from resnetkit.errors import InputError
from resnetkit.training.epoch_log import EpochLog, best_of, is_finished, read_log
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.run_folder import BEST, RECIPE, STATES, read_recipe

#: Fields that are not compared; the image size is that of the preprocessing.
_LEFT_OUT = ("network.about", "network.source", "network.input_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A run read from its folder. ``name`` is its path below the searched folder.

    ``validation`` is the accuracy of the best epoch, ``best``, and ``test`` that on the test
    images, shares from 0 to 1; None if not measured. ``seconds`` is the duration of the ``done``
    epochs, whose logs are ``rows``.
    """

    name: str
    folder: Path
    recipe: Recipe
    done: int
    finished: bool
    best: int | None
    validation: float | None
    test: float | None
    seconds: float
    rows: tuple[EpochLog, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, without the recipe."""
        return {
            "run": self.name,
            "finished": self.finished,
            "epochs": {"done": self.done, "of": self.recipe.epochs},
            "best_epoch": self.best,
            "validation_accuracy": self.validation,
            "test_accuracy": self.test,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs(Displayed):
    """The runs below ``folder``, by descending validation accuracy, as test images must not be used
    for selection; and why ``damaged`` ones cannot be read."""

    folder: str
    runs: tuple[Ran, ...]
    damaged: Mapping[str, str]

    def differences(self) -> dict[str, list[Any]]:
        """The values of each option that differs between runs, as JSON types.

        Nested options are named ``network.depths``, ``augment.flip``.
        """
        flat = [_flat(run.recipe) for run in self.runs]
        names = dict.fromkeys(name for one in flat for name in one)
        columns = {name: [one.get(name) for one in flat] for name in names}
        return {
            name: values
            for name, values in columns.items()
            if any(value != values[0] for value in values)
        }

    def to_json(self) -> str:
        """The comparison as JSON."""
        differences = self.differences()
        rows = [
            {**run.to_dict(), "recipe": {name: v[number] for name, v in differences.items()}}
            for number, run in enumerate(self.runs)
        ]
        damaged = [{"run": name, "reason": reason} for name, reason in self.damaged.items()]
        return json.dumps({"folder": self.folder, "runs": rows, "damaged": damaged}, indent=2)


def compare_runs(folder: str | Path) -> Runs:
    """All runs in ``folder`` and below, except in hidden folders.

    Weights are not read. Raises ``ValueError`` if there is no such folder or no run in it.

    >>> [run.name for run in resnetkit.compare_runs(".").runs]
    ['run']
    """
    root = Path(folder)
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise InputError(f"{root} {what}; give a folder with runs")
    runs: list[Ran] = []
    damaged: dict[str, str] = {}
    for place in _places(root):
        name = place.relative_to(root).as_posix() if place != root else place.name or str(place)
        try:
            runs.append(_ran(place, name))
        except (InputError, OSError) as error:
            damaged[name] = str(error)
    if not runs and not damaged:
        raise InputError(f"{root} contains no runs; give a folder with runs, which have a {RECIPE}")
    runs.sort(key=lambda run: (-(run.validation or 0.0), -(run.test or 0.0), run.name))
    return Runs(folder=str(folder), runs=tuple(runs), damaged=damaged)


def _places(root: Path) -> list[Path]:
    found = []
    for place, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if RECIPE in files:
            found.append(Path(place))
            folders.clear()
    return found


def _ran(folder: Path, name: str) -> Ran:
    recipe, rows = read_recipe(folder), read_log(folder)
    best = best_of(rows) if any(row.best for row in rows) else None
    ended = is_finished(rows, recipe.epochs, recipe.schedule.patience)
    unfinished = not ended or any((folder / file).exists() for file in STATES)
    return Ran(
        name=name,
        folder=folder,
        recipe=recipe,
        done=len(rows),
        finished=not unfinished,
        best=None if best is None else best.epoch,
        validation=None if best is None else best.validation_accuracy,
        test=None if unfinished else _test_accuracy(folder),
        seconds=sum(row.seconds for row in rows),
        rows=tuple(rows),
    )


def _test_accuracy(folder: Path) -> float | None:
    measured = document_of(folder / BEST)["measured"]
    try:
        accuracy = measured.get("test", {}).get("accuracy")
        return None if accuracy is None else float(accuracy)
    except (AttributeError, TypeError, ValueError):
        raise InputError(f"{folder / BEST} has invalid measurements") from None


def _flat(recipe: Recipe) -> dict[str, Any]:
    network = recipe.network.to_dict()
    options = network.pop("options")
    tables = {
        "network": {**network, **options},
        "preprocess": recipe.preprocess.to_dict(),
        "augment": recipe.augment.to_dict(),
    }
    own = {"data": recipe.data, "pretrained": recipe.pretrained, **recipe.options()}
    found = [(name, list(v) if isinstance(v, tuple) else v) for name, v in own.items()]
    return {name: value for name, value in found + _named(tables) if name not in _LEFT_OUT}


def _named(document: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in document.items():
        if isinstance(value, dict):
            found += _named(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found

"""Callback that logs a run to Weights & Biases."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnetkit.errors import check_installed
from resnetkit.report.callbacks.curves import points, results, settings
from resnetkit.report.callbacks.tracker import TrackerCallback
from resnetkit.training.callbacks import Callback
from resnetkit.training.epoch_log import EpochLog
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.result import Result


class WandbCallback(TrackerCallback):
    """Logs a run to Weights & Biases: the recipe's options as configuration, metrics with the epoch
    as step, the test metrics with their intervals in the summary, and the bundle and the report as
    an artifact of type ``model``.

    ``project`` is ``PROJECT`` or ``ENTITY/PROJECT``. W&B's environment variables apply, e.g.
    ``WANDB_MODE=offline``; without an API key the run is logged offline, and ``wandb sync`` uploads
    it. A resumed run continues W&B's run. If a run is active (``wandb.init``), it is used and left
    open. A failure of W&B is reported once, to ``teller``, and
    does not stop training.

    Raises ``ValueError`` if wandb is not installed.

    >>> logged = resnetkit.WandbCallback("digits")
    >>> resnetkit.train("digits", out="watched", epochs=1, callbacks=[logged]).best.epoch
    1
    """

    key, title = "wandb", "W&B"

    def __init__(self, project: str | None = None, *, teller: Callback | None = None) -> None:
        super().__init__(teller)
        check_installed("wandb", "W&B logging")
        self.project = project
        self._run: Any = None
        self._is_own = True

    def _begin(self, recipe: Recipe, record: Mapping[str, Any]) -> tuple[str, str]:
        import wandb

        place = self.project or ""
        if wandb.run is not None:
            self._run, self._is_own = wandb.run, False
            self._run.config.update(settings(recipe), allow_val_change=True)
            return place, str(self._run.id)
        entity, _, project = place.rpartition("/")
        given: dict[str, Any] = {
            "entity": entity or None,
            "project": project or None,
            "name": self._folder.resolve().name,
            "id": record["run"] if record.get("place") == place else None,
            "resume": "allow",
            "config": settings(recipe),
            # The command and its folder, which have the path of the data.
            "settings": wandb.Settings(x_disable_meta=True),
        }
        if wandb.setup().settings.mode == "online" and not _has_key():
            self._teller.warn(
                "W&B has no API key, so the run is logged offline; `wandb login` stores one"
            )
            given["mode"] = "offline"
        self._run = wandb.init(**given)
        return place, str(self._run.id)

    def _add(self, row: EpochLog) -> None:
        # Steps of another program's run are its own.
        step = row.epoch if self._is_own else None
        self._run.log({"epoch": row.epoch, **points(row)}, step=step)

    def _add_result(self, result: Result, files: list[Path]) -> None:
        import wandb

        self._run.summary.update({**results(result), "best epoch": result.best.epoch})
        artifact = wandb.Artifact(f"model-{self._run.id}", "model", metadata=results(result))
        for path in files:
            artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def _end(self, *, finished: bool) -> None:
        if self._is_own:
            self._run.finish(exit_code=0 if finished else 1)


def _has_key() -> bool:
    """Whether W&B has an API key; ``wandb.init`` would ask for one on a terminal."""
    import wandb

    if "prompt" in inspect.signature(wandb.login).parameters:
        return bool(wandb.login(prompt=False, verify=False))
    return bool(wandb.api.api_key)  # of versions before

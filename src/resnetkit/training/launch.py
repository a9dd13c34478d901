"""Trains, resumes or finds a learning rate in one call."""

from __future__ import annotations

from collections.abc import Callable as Function
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resnetkit import display
from resnetkit.architecture.network import Network
from resnetkit.bundle.bundle import Bundle
from resnetkit.hub.weights import load
from resnetkit.training import lr_finder, run
from resnetkit.training.callbacks import Callback, Callbacks, RunOptions
from resnetkit.training.lr_finder import LRFinderResult
from resnetkit.training.process_group import joined
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.result import Result

Weights = Bundle | str | Path


def train(
    data: str | Path = "digits",
    model: str | Network | None = None,
    *,
    out: str | Path,
    pretrained: Weights | None = None,
    callbacks: Sequence[Callback] = (),
    run_options: RunOptions | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
    **choices: Any,
) -> Result:
    """Train a network on labelled images into the new folder ``out``.

    ``data`` is ``"digits"``, a folder of class folders, a table, shards, ... (``open_dataset``).
    ``pretrained`` are weights to start from, as in ``load``; they determine the network, with a new
    classifier if the classes differ. ``choices`` are options of the recipe: ``recipe`` (a published
    one by name, or a TOML file), ``epochs``, ``batch_size``, ``lr``, ``size``, ...
    (``make_recipe``, ``Recipe``). ``callbacks`` are called during training. ``progress`` shows a
    bar, the warnings and a line for each epoch, by default in notebooks only. Processes started by
    torchrun train together.

    Raises ``ValueError`` for invalid data or choices, and for a folder that is not empty
    (``overwrite`` removes an earlier run).

    >>> result = resnetkit.train("digits", out="run", epochs=1, threads=1)
    >>> result.folder / "best.safetensors"
    PosixPath('run/best.safetensors')
    """
    pretrained = _opened(pretrained)
    with joined(_timeout(run_options)) as processes, display.training(progress) as shown:
        recipe = processes.shared(
            lambda: make_recipe(data, model, pretrained=pretrained, **choices)
        )
        return run.run_recipe(
            recipe,
            out,
            _all(callbacks, shown),
            pretrained=pretrained,
            run_options=run_options,
            overwrite=overwrite,
            processes=processes,
        )


def resume(
    out: str | Path,
    *,
    callbacks: Sequence[Callback] = (),
    run_options: RunOptions | None = None,
    progress: bool | None = None,
) -> Result:
    """Resume an interrupted run at the batch of its last checkpoint, to identical weights.

    ``progress`` is as in ``train``. Raises ``ValueError`` for a folder without a run, or if the
    images have changed.

    >>> resnetkit.resume("run").best.epoch
    1
    """
    with joined(_timeout(run_options)) as processes, display.training(progress) as shown:
        return run.resume(out, _all(callbacks, shown), run_options=run_options, processes=processes)


def find_lr(
    data: str | Path = "digits",
    model: str | Network | None = None,
    *,
    pretrained: Weights | None = None,
    steps: int = lr_finder.STEPS,
    on_progress: Function[[int], None] = lambda _: None,
    **choices: Any,
) -> LRFinderResult:
    """The learning rate range test (Smith 2015, arXiv:1506.01186) of a run.

    The arguments are those of ``train``; nothing is written. ``on_progress`` is called with the
    number of images of each step. Raises ``ValueError`` as ``train`` does, and if the loss never
    falls.

    >>> found = resnetkit.find_lr("digits", steps=40, threads=1)
    >>> 1e-6 < found.suggested < 10
    True
    """
    pretrained = _opened(pretrained)
    recipe = make_recipe(data, model, pretrained=pretrained, **choices)
    return lr_finder.find_lr(recipe, pretrained=pretrained, steps=steps, done=on_progress)


def _opened(weights: Weights | None) -> Bundle | None:
    return load(weights) if isinstance(weights, str | Path) else weights


def _timeout(run_options: RunOptions | None) -> float:
    return (run_options or RunOptions()).network_timeout


def _all(callbacks: Sequence[Callback], shown: Callback | None) -> Callback | None:
    # The first gets all warnings.
    found = callbacks if shown is None else [shown, *callbacks]
    return Callbacks(*found) if found else None

"""Runs: trains by a recipe into a folder that can be resumed and evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from resnetkit.bundle.bundle import Bundle, load
from resnetkit.data.datasets.dataset import Dataset, Part
from resnetkit.errors import InputError
from resnetkit.evaluation.evaluation import evaluate_engine
from resnetkit.files import write_text
from resnetkit.inference.engines.selection import open_engine
from resnetkit.inference.engines.torch import Torch
from resnetkit.training.callbacks import Callback, RunOptions, SilentCallback
from resnetkit.training.checkpoint import remove_states
from resnetkit.training.distributed import ALONE, Processes
from resnetkit.training.epoch_log import EpochLog, is_finished, read_log
from resnetkit.training.fsdp import check_version
from resnetkit.training.precision import settled
from resnetkit.training.process_group import unconnected_tasks
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.result import Result
from resnetkit.training.run_context import RunContext
from resnetkit.training.run_folder import (
    BEST,
    RECIPE,
    START,
    STATES,
    check_free,
    clear,
    locked,
    make,
    read_recipe,
    remove_temporary,
)
from resnetkit.training.signals import Stop
from resnetkit.training.split_data import DataSplits, prepare_splits, reload_splits
from resnetkit.training.step.allocator import keep_memory
from resnetkit.training.step.compile import check_compiler
from resnetkit.training.step.gpu import reproducible, within_memory
from resnetkit.training.step.model_setup import FlipTTA
from resnetkit.training.step.threads import threads
from resnetkit.training.trainer import Trainer


def run_recipe(
    recipe: Recipe,
    out: str | Path,
    callback: Callback | None = None,
    *,
    pretrained: Bundle | None = None,
    run_options: RunOptions | None = None,
    overwrite: bool = False,
    processes: Processes = ALONE,
    dataset: Dataset | None = None,
) -> Result:
    """Train by ``recipe`` into the new folder ``out``, from new weights or those of ``pretrained``.

    The classifier of ``pretrained`` is kept if its classes are those of the data, in order;
    otherwise it is reinitialized.

    The folder gets ``recipe.toml``, ``split.json``, ``log.jsonl``, ``bad-images.txt`` if there are
    any, ``best.safetensors`` (see ``epoch_log.is_best``), ``last.safetensors`` and, until the run
    is finished, ``state.safetensors`` and the one before. The best bundle is evaluated on the test
    images once, at the end. The same recipe gives the same weights, bit for bit, on the same
    machine's CPU with the same number of threads, even if killed and resumed; on a GPU as far as
    torch has deterministic algorithms for it (``deterministic``), of which it warns.

    SIGINT and SIGTERM end it after the current step, with ``KeyboardInterrupt``; all progress is
    saved. Raises ``ValueError`` for a folder that is not empty (``overwrite`` removes an earlier
    run), for unusable data, for ``pretrained`` weights of another network than the recipe's, if the
    loss is not finite, and if the disk is full.

    ``processes`` (``joined``) train together, each on its share of every batch, with the same
    arguments; after a restart by torchrun they resume the run. ``dataset`` has the images instead
    of ``recipe.data``; such a run cannot be resumed.
    """
    folder, callback, run_options = (
        Path(out),
        _callback_for(callback, processes),
        run_options or RunOptions(),
    )
    processes.check(recipe)
    _warn_of_tasks(callback)
    if processes.shared(lambda: processes.remembers_start(folder, overwrite=overwrite)):
        callback.warn(f"torchrun has restarted the processes; resuming {folder}")
        return resume(folder, callback, run_options=run_options, processes=processes)
    processes.shared(lambda: check_free(folder, overwrite=overwrite))
    if recipe.runtime.compile:
        check_compiler()
    _check_fsdp(recipe, callback, run_options, processes)
    stop = Stop(stubborn=not processes.alone)
    context = RunContext(callback=callback, run_options=run_options, stop=stop, processes=processes)
    with stop.listening():
        splits = prepare_splits(recipe, callback, run_options, processes, dataset)
        if pretrained is not None:
            pretrained = _with_head_for(pretrained, splits.classes, recipe, callback)
        # The chosen precision is kept when the run is resumed.
        with threads(recipe.runtime.threads), reproducible(recipe):
            recipe = processes.shared(lambda: settled(recipe))
        if not processes.leads:
            return _continue(recipe, folder, splits, context)
        make(folder)
        with locked(folder):
            # Another process may have created it meanwhile.
            check_free(folder, overwrite=overwrite)
            clear(folder)
            processes.remember_start(folder)
            if pretrained is not None:
                pretrained.save(folder / START)
            splits.record.save(folder)
            splits.bad.save(folder)
            write_text(folder / RECIPE, recipe.to_toml())
            return _continue(recipe, folder, splits, context)


def _check_fsdp(
    recipe: Recipe, callback: Callback, run_options: RunOptions, processes: Processes
) -> None:
    if not run_options.fsdp:
        return
    check_version()
    if recipe.runtime.compile:
        raise InputError(
            "a network that is divided by fsdp cannot be compiled; leave fsdp or compile out",
            field=("fsdp", "compile"),
        )
    if processes.alone:
        callback.warn("fsdp has no effect on a single process, which keeps all weights")


def _warn_of_tasks(callback: Callback) -> None:
    if text := unconnected_tasks():
        callback.warn(text)


def _callback_for(callback: Callback | None, processes: Processes) -> Callback:
    return (callback or Callback()) if processes.leads else SilentCallback()


def _with_head_for(
    pretrained: Bundle, classes: tuple[str, ...], recipe: Recipe, callback: Callback
) -> Bundle:
    """``pretrained`` in float32 with a classifier of ``classes``."""
    if pretrained.classes != classes:
        callback.warn(f"a new classifier is trained: {_difference(pretrained.classes, classes)}")
        pretrained = pretrained.with_new_head(classes, seed=recipe.runtime.seed)
    if pretrained.network.options != recipe.network.options:
        raise InputError(
            f"the recipe trains {recipe.network.name} and the weights are of another network, "
            f"{pretrained.network.name}; create the recipe with make_recipe(..., pretrained=...)"
        )
    arrays = {k: v.float() if v.is_floating_point() else v for k, v in pretrained.arrays.items()}
    return replace(pretrained, arrays=arrays)


def _difference(old: tuple[str, ...], new: tuple[str, ...]) -> str:
    if not old:
        return "the weights have none"
    if sorted(old) == sorted(new):
        return "the weights have the same classes in another order"
    return f"the weights are for {len(old)} classes ({old[0]}, ...), the data has {len(new)}"


def resume(
    out: str | Path,
    callback: Callback | None = None,
    *,
    run_options: RunOptions | None = None,
    processes: Processes = ALONE,
) -> Result:
    """Resume an interrupted run at the batch of its last checkpoint, to identical weights.

    Raises ``ValueError`` for a folder without a run, if the images have changed, and as ``train``
    does. The number of ``processes`` may differ from before.
    """
    folder, callback, run_options = (
        Path(out),
        _callback_for(callback, processes),
        run_options or RunOptions(),
    )
    recipe = processes.shared(lambda: read_recipe(folder))
    if recipe.runtime.precision == "auto":
        # A run by a version without this option.
        recipe = recipe.override(precision="fp32")
    processes.check(recipe)
    _warn_of_tasks(callback)
    _check_fsdp(recipe, callback, run_options, processes)
    stop = Stop(stubborn=not processes.alone)
    context = RunContext(callback=callback, run_options=run_options, stop=stop, processes=processes)
    with stop.listening(), locked(folder) if processes.leads else nullcontext():
        if processes.leads:
            remove_temporary(folder)
        splits = reload_splits(recipe, folder, callback, run_options, processes)
        return _continue(recipe, folder, splits, context)


def _continue(
    recipe: Recipe,
    folder: Path,
    splits: DataSplits,
    context: RunContext,
) -> Result:
    processes = context.processes
    with (
        _told(context.callback, folder),
        threads(recipe.runtime.threads),
        # Divided weights are there to save memory: what is free is given back.
        nullcontext() if context.run_options.fsdp else keep_memory(),
        reproducible(recipe),
        within_memory(recipe),
    ):
        rows = processes.shared(lambda: read_log(folder))
        unfinished = processes.shared(lambda: any((folder / name).exists() for name in STATES))
        if unfinished or not is_finished(rows, recipe.epochs, recipe.schedule.patience):
            pretrained = None
            if recipe.pretrained is not None:
                pretrained = processes.shared(lambda: load(folder / START))
            trainer = Trainer(recipe, folder, splits, context, pretrained=pretrained)
            processes.limit(context.run_options.network_timeout)
            rows = trainer.run()
        result = _finish(recipe, folder, splits, rows, processes)
        context.callback.finish(result)
        return result


@contextmanager
def _told(callback: Callback, folder: Path) -> Iterator[None]:
    """Open and close the callback."""
    try:
        callback.open(folder)
        yield
    finally:
        callback.close()


def _finish(
    recipe: Recipe, folder: Path, splits: DataSplits, rows: list[EpochLog], processes: Processes
) -> Result:
    """Evaluate the best bundle."""
    parts: tuple[Part, ...] = ("test", "validation", "train")
    part = next(part for part in parts if splits.parts.get(part))
    bundle = processes.shared(lambda: load(folder / BEST))
    engine = open_engine(bundle, "torch", device=recipe.runtime.device)
    if recipe.images.flip_tta:
        module = FlipTTA(bundle.module()).to(recipe.runtime.device)
        engine = Torch(module, bundle.preprocess, engine.options)
    evaluation = evaluate_engine(
        engine,
        bundle.preprocess,
        bundle.classes,
        splits.parts[part],
        batch_size=recipe.batch_size // processes.world,
        share=processes.share,
        joined=lambda found: [one for part in processes.gathered(found) for one in part],
    )
    if part == "test" and processes.leads:
        measured = evaluation.measured()
        if recipe.images.flip_tta:
            # Without mirror images `evaluate` gives a slightly lower accuracy.
            measured["mirrored"] = True
        bundle.with_measured(test=measured).save(folder / BEST)
    if processes.leads:
        remove_states(folder)
        (folder / START).unlink(missing_ok=True)
    return Result(
        folder=folder,
        recipe=recipe,
        rows=tuple(rows),
        counts=splits.counts(),
        part=part,
        evaluation=evaluation,
        copies=0 if part == "train" else len(splits.record.copies(part)),
    )


@contextmanager
def rehearsed(
    recipe: Recipe, callback: Callback, run_options: RunOptions, pretrained: Bundle | None
) -> Iterator[tuple[Recipe, DataSplits, Bundle | None]]:
    """The recipe, images and weights that a run would start with; sets its threads.

    Writes nothing. Raises ``ValueError`` as ``train`` does for data and weights.
    """
    splits = prepare_splits(recipe, callback, run_options)
    if pretrained is not None:
        pretrained = _with_head_for(pretrained, splits.classes, recipe, callback)
    with threads(recipe.runtime.threads), reproducible(recipe), within_memory(recipe):
        yield settled(recipe), splits, pretrained

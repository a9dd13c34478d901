"""A run: train by a recipe and leave a folder that can be evaluated, compared and continued."""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from resnetkit.bundle import Bundle, load
from resnetkit.errors import InputError
from resnetkit.evaluation import Evaluation, evaluate
from resnetkit.files import write_text
from resnetkit.images.opening import open_source
from resnetkit.images.reading import verify
from resnetkit.images.sources import PARTS, Example, Part, Source
from resnetkit.images.splits import SplitRecord, load_record, split
from resnetkit.module.build import ResNet, build
from resnetkit.training import state
from resnetkit.training.feed import Feed
from resnetkit.training.log import Row, best_of, is_best, read_log, write_log
from resnetkit.training.loop import DivergedError, measure, train_epoch
from resnetkit.training.optimizer import learning_rate, optimizer_of
from resnetkit.training.recipe import Recipe

RECIPE, BEST, LAST = "recipe.toml", "best.safetensors", "last.safetensors"
#: What a run that trains other weights further has to start from, until it is finished.
START = "start.safetensors"


class Watch:
    """Is told how a run goes; a view overrides what it wants to show."""

    def warn(self, text: str) -> None:
        """Something the user should know, one line."""
        warnings.warn(text, stacklevel=2)

    def start(self, recipe: Recipe, images: Mapping[Part, int], rows: list[Row]) -> None:
        """Training begins; ``rows`` are the epochs that an earlier run has finished."""

    def images(self, count: int) -> None:
        """So many images more were trained on."""

    def epoch(self, row: Row) -> None:
        """An epoch has ended and is on the disk."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """A finished run. ``test`` is None where there are no test images."""

    folder: Path
    recipe: Recipe
    rows: tuple[Row, ...]
    test: Evaluation | None

    @property
    def best(self) -> Row:
        """The epoch whose weights are in ``best.safetensors``."""
        return best_of(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Held:
    """The images of each part, and what ``split.json`` says of them."""

    classes: tuple[str, ...]
    parts: Mapping[Part, tuple[Example, ...]]
    record: SplitRecord


def train(
    recipe: Recipe,
    out: str | Path,
    watch: Watch | None = None,
    *,
    start: Bundle | None = None,
) -> Result:
    """Train by ``recipe`` into the new folder ``out``, from new weights or those of ``start``.

    The classifier of ``start`` is kept where its classes are those of the data, in order;
    otherwise a new one is drawn.

    The folder gets ``recipe.toml``, ``split.json``, ``log.jsonl``, ``best.safetensors`` (best
    validation accuracy, at the same one the lower loss), ``last.safetensors`` and, until the run
    is finished, ``state.safetensors``. The best bundle is measured on the test images once, at
    the end. The same recipe gives the same weights, bit for bit, on the same machine's CPU.

    Raises ``ValueError`` for a folder that is not empty, for data that cannot be used, for a
    ``start`` with another network than the recipe's, and where the loss diverges.
    """
    folder, watch = Path(out), watch or Watch()
    _check_free(folder)
    held = _hold(recipe, watch)
    if start is not None:
        start = _with_head_for(start, held.classes, recipe, watch)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from None
    if start is not None:
        start.save(folder / START)
    write_text(folder / RECIPE, recipe.to_toml())
    held.record.save(folder)
    return _go_on(recipe, folder, held, watch)


def _with_head_for(start: Bundle, classes: tuple[str, ...], recipe: Recipe, watch: Watch) -> Bundle:
    """``start`` in float32 with a classifier of ``classes``."""
    if start.classes != classes:
        watch.warn(f"a new classifier is trained: {_difference(start.classes, classes)}")
        start = start.with_new_head(classes, seed=recipe.seed)
    if start.network.options != recipe.network.options:
        raise InputError(
            f"the recipe trains {recipe.network.name} and the weights are those of another "
            f"network, {start.network.name}; make the recipe with plan(..., start=...)"
        )
    arrays = {k: v.float() if v.is_floating_point() else v for k, v in start.arrays.items()}
    return replace(start, arrays=arrays)


def _difference(old: tuple[str, ...], new: tuple[str, ...]) -> str:
    if not old:
        return "the weights have none"
    if sorted(old) == sorted(new):
        return "the weights have the same classes in another order"
    return f"the weights are for {len(old)} classes ({old[0]}, ...), the data has {len(new)}"


def resume(out: str | Path, watch: Watch | None = None) -> Result:
    """Continue an interrupted run after its last finished epoch, to the very same weights.

    Raises ``ValueError`` for a folder that is no run, or whose images have changed since.
    """
    folder, watch = Path(out), watch or Watch()
    recipe = read_recipe(folder)
    held = _hold(recipe, watch)
    record = load_record(folder)
    if record is None:
        held.record.save(folder)
    elif record != held.record:
        raise InputError(
            f"the images of {recipe.data} are not those that {folder} was started with; "
            "bring them back, or start a new run"
        )
    return _go_on(recipe, folder, held, watch)


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a run folder. Raises ``ValueError`` where there is none."""
    path = folder / RECIPE
    if not path.is_file():
        raise InputError(f"{folder} is no run: it has no {RECIPE}; give the folder of a run")
    try:
        return Recipe.from_toml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def _check_free(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give another --out")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            f"{folder} is not empty; continue a run with --resume {folder}, or give another --out"
        )
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(f"{folder} cannot be written, for {there} cannot; give another --out")


def _hold(recipe: Recipe, watch: Watch) -> _Held:
    """Read every image once, leave out what cannot be read, and split the rest."""
    source = open_source(recipe.data)
    verified = verify(source.examples, recipe.preprocess)
    for problem in verified.problems:
        watch.warn(f"skipped {problem}")
    if verified.problems:
        watch.warn(
            f"{len(verified.problems)} of {len(source.examples)} images cannot be read and are "
            "left out"
        )
    parts = split(
        _readable(source, verified.digests),
        validation=recipe.validation,
        test=recipe.test,
        seed=recipe.seed,
    )
    record = SplitRecord(
        data=source.name,
        classes=source.classes,
        parts={
            part: {e.name: verified.digests[e.name] for e in parts.get(part, ())} for part in PARTS
        },
    )
    _warn_of_copies(record, watch)
    return _Held(classes=source.classes, parts=parts, record=record)


def _readable(source: Source, digests: Mapping[str, str]) -> Source:
    return replace(
        source,
        flat=tuple(e for e in source.flat if e.name in digests),
        parts={
            p: tuple(e for e in found if e.name in digests) for p, found in source.parts.items()
        },
    )


def _warn_of_copies(record: SplitRecord, watch: Watch) -> None:
    trained = set(record.parts["train"].values())
    for part in ("validation", "test"):
        copies = [name for name, digest in record.parts[part].items() if digest in trained]
        if copies:
            watch.warn(
                f"{len(copies)} {part} image(s) are copies of training images, e.g. {copies[0]}; "
                "the accuracy will look better than it is"
            )


def _go_on(recipe: Recipe, folder: Path, held: _Held, watch: Watch) -> Result:
    with _threads(recipe.threads):
        rows = _train(recipe, folder, held, watch)
        return _finish(recipe, folder, held, rows)


def _train(recipe: Recipe, folder: Path, held: _Held, watch: Watch) -> list[Row]:
    rows = read_log(folder)
    counts = {part: len(held.parts.get(part, ())) for part in PARTS}
    if len(rows) == recipe.epochs and not (folder / state.FILE).exists():
        return rows
    start = None if recipe.start is None else load(folder / START)
    module = _module(recipe, start)
    optimizer = optimizer_of(module, recipe)
    finished = state.load_state(folder, module, optimizer)
    if finished > len(rows):
        raise InputError(f"{folder} lacks epochs of its log; train anew")
    # An epoch that was interrupted while it was written is trained again.
    del rows[finished:]
    watch.start(recipe, counts, list(rows))
    feeds = _feeds(recipe, held)
    while len(rows) < recipe.epochs:
        try:
            row = _epoch(recipe, module, optimizer, feeds, rows, watch)
        except DivergedError as error:
            kept = f"{folder / LAST} is that of epoch {len(rows)}" if rows else "nothing is kept"
            raise DivergedError(
                f"{error} in epoch {len(rows) + 1}; {kept}; train again with an --lr below "
                f"{recipe.lr:g}"
            ) from None
        rows.append(row)
        _keep(recipe, folder, module, held.classes, rows, start)
        state.save_state(folder, module, optimizer, len(rows))
        watch.epoch(row)
    return rows


def _module(recipe: Recipe, start: Bundle | None) -> ResNet:
    """The network with the weights of ``start``, or with some drawn by the recipe's seed.

    torch's own generator is untouched.
    """
    if start is not None:
        module = start.module()
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            module = build(recipe.network)
    # Channels last is the faster layout for convolutions, on processors too.
    return module.to(recipe.device).to(memory_format=torch.channels_last)


def _feeds(recipe: Recipe, held: _Held) -> tuple[Feed, Feed]:
    train, validation = held.parts["train"], held.parts["validation"]
    size = recipe.batch_size
    return (
        Feed(train, recipe.preprocess, batch_size=size, augment=recipe.augment, seed=recipe.seed),
        Feed(validation, recipe.preprocess, batch_size=size),
    )


def _epoch(
    recipe: Recipe,
    module: ResNet,
    optimizer: torch.optim.Optimizer,
    feeds: tuple[Feed, Feed],
    rows: list[Row],
    watch: Watch,
) -> Row:
    begin = time.perf_counter()
    train, validation = feeds
    done, each = len(rows), len(train)
    rates = _rates(recipe, done * each, recipe.epochs * each, round(recipe.warmup * each))
    trained = train_epoch(
        module,
        train.batches(done),
        optimizer,
        rates=rates,
        label_smoothing=recipe.label_smoothing,
        device=recipe.device,
        done=watch.images,
    )
    seconds = time.perf_counter() - begin
    held = measure(module, validation.batches(), device=recipe.device)
    return Row(
        epoch=done + 1,
        lr=optimizer.param_groups[0]["lr"],
        loss=trained.loss,
        accuracy=trained.accuracy,
        validation_loss=held.loss,
        validation_accuracy=held.accuracy,
        seconds=time.perf_counter() - begin,
        rate=trained.images / seconds,
        best=is_best(rows, held.accuracy, held.loss),
    )


def _rates(recipe: Recipe, first: int, steps: int, warmup: int) -> Iterator[float]:
    for step in range(first, steps):
        yield learning_rate(step, steps=steps, warmup=warmup, peak=recipe.lr)


def _keep(
    recipe: Recipe,
    folder: Path,
    module: ResNet,
    classes: tuple[str, ...],
    rows: list[Row],
    start: Bundle | None,
) -> None:
    """Write the bundles and the log; ``state`` comes last, for what it says is what counts."""
    row = rows[-1]
    bundle = Bundle.from_module(
        module,
        preprocess=recipe.preprocess,
        classes=classes,
        origin=_origin(recipe, row.epoch, start),
        measured={"validation": {"accuracy": row.validation_accuracy, "loss": row.validation_loss}},
    )
    if row.best:
        bundle.save(folder / BEST)
    bundle.save(folder / LAST)
    write_log(folder, rows)


def _origin(recipe: Recipe, epoch: int, start: Bundle | None) -> dict[str, Any]:
    """Where the weights come from; the folder by its name only, for a bundle travels."""
    return {
        "made_by": "resnetkit train",
        "epoch": epoch,
        "recipe": {**recipe.to_dict(), "data": Path(recipe.data).name},
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        **({} if start is None else {"start": dict(start.origin)}),
    }


def _finish(recipe: Recipe, folder: Path, held: _Held, rows: list[Row]) -> Result:
    """Measure the best bundle on the test images, once the choice of the best is made."""
    evaluation = None
    if held.parts.get("test"):
        bundle = load(folder / BEST)
        evaluation = evaluate(
            bundle.module().to(recipe.device),
            bundle.preprocess,
            bundle.classes,
            held.parts["test"],
            batch_size=recipe.batch_size,
            device=recipe.device,
        )
        bundle.with_measured(test=evaluation.measured()).save(folder / BEST)
    for name in (state.FILE, START):
        (folder / name).unlink(missing_ok=True)
    return Result(folder=folder, recipe=recipe, rows=tuple(rows), test=evaluation)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count or before)
        yield
    finally:
        torch.set_num_threads(before)

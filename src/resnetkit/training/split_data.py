"""Reads, validates and splits a run's images, and records the split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resnetkit.data.datasets.dataset import (
    PARTS,
    Dataset,
    Part,
    Sample,
    Samples,
    labels_of,
    taken,
)
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.packed_samples import PackedSamples
from resnetkit.data.datasets.readability import DECODED, FILE, BadImages, Checked, check
from resnetkit.data.datasets.splits import SplitRecord, load_record, split
from resnetkit.errors import InputError
from resnetkit.training.callbacks import Callback, RunOptions
from resnetkit.training.distributed import ALONE, Processes
from resnetkit.training.recipe.recipe import Recipe

#: Maximum number of unreadable images named in warnings.
_NAMED = 10
#: Images that each machine compares with those of the others.
_COMPARED = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DataSplits:
    """The images of each part, and their record for ``split.json``."""

    classes: tuple[str, ...]
    parts: Mapping[Part, Sequence[Sample]]
    record: SplitRecord
    bad: BadImages

    def counts(self) -> dict[Part, int]:
        """The number of images of each part."""
        return {part: len(self.parts.get(part, ())) for part in PARTS}

    def class_counts(self) -> list[int]:
        """The number of training images of each class."""
        labels = labels_of(self.parts["train"])
        return [int(count) for count in np.bincount(labels, minlength=len(self.classes))]


def prepare_splits(
    recipe: Recipe,
    callback: Callback,
    run_options: RunOptions,
    processes: Processes = ALONE,
    dataset: Dataset | None = None,
) -> DataSplits:
    """Read every image once, skip unreadable ones, and split the rest.

    ``dataset`` has the images instead of ``recipe.data``. Raises ``ValueError`` for more unreadable
    images than ``run_options`` allows, and for a batch larger than the training set.
    """
    source = open_dataset(recipe.data) if dataset is None else dataset
    for note in source.notes:
        callback.warn(note)
    examples = source.examples
    # With an index, many images are not read before training: checksums replace their digests.
    trusted = isinstance(examples, Samples) and len(examples) > DECODED
    checked = _checked(examples, recipe, processes, trusted=trusted)
    bad = BadImages(len(examples), run_options.max_bad)
    for name, reason in checked.problems.items():
        bad.add(name, reason)
        if len(bad.problems) <= _NAMED:
            callback.warn(f"skipped {name}: {reason}")
    if bad.problems:
        bad.check()
        callback.warn(
            f"{len(bad.problems)} of {bad.total} images cannot be read and are skipped; "
            f"{FILE} lists them"
        )
    parts = split(
        source if trusted else _readable(source, checked.digests),
        validation=recipe.images.validation,
        test=recipe.images.test,
        seed=recipe.runtime.seed,
    )
    if recipe.schedule.patience and not parts["validation"]:
        raise InputError(
            f"patience is {recipe.schedule.patience}, and there are no validation images; leave "
            "patience out, or hold some images out",
            field="patience",
        )
    if len(parts["train"]) < recipe.batch_size:
        raise InputError(
            f"batch_size is {recipe.batch_size}; it must be at most {len(parts['train'])}, the "
            "number of training images",
            field="batch_size",
        )
    window, machines = _order(parts["train"], processes)
    record = SplitRecord(
        data=source.name,
        classes=source.classes,
        parts={part: _recorded(parts.get(part, ()), checked.digests) for part in PARTS},
        window=window,
        machines=machines,
    )
    _warn_of_copies(record, callback)
    return DataSplits(classes=source.classes, parts=parts, record=record, bad=bad)


def _checked(
    examples: Sequence[Sample], recipe: Recipe, processes: Processes, *, trusted: bool
) -> Checked:
    """Check a share of the images per process, and gather the results; nothing if ``trusted``."""
    if isinstance(examples, Samples):
        same = processes.same(examples.digest())
    else:
        same = processes.same([(e.name, e.label) for e in examples])
    if not same:
        raise InputError(f"the images of {recipe.data} differ between machines; each must have all")
    if trusted:
        return Checked(digests={}, problems={})
    digests: dict[str, str] = {}
    problems: dict[str, str] = {}
    for found in processes.gathered(check(examples, recipe.preprocess, processes.share)):
        digests |= found.digests
        problems |= found.problems
    checked = Checked(digests=digests, problems=problems)
    if processes.machines > 1 and not isinstance(examples, Samples):
        _compare(examples, recipe, checked)
    return checked


def _compare(examples: Sequence[Sample], recipe: Recipe, checked: Checked) -> None:
    """Read a few images that other machines have read, as their contents may differ.

    Raises ``ValueError`` if they do.
    """
    step = max(1, len(examples) // _COMPARED)
    here = check(examples, recipe.preprocess, lambda images: images[::step])
    for name, digest in here.digests.items():
        if checked.digests.get(name) != digest:
            raise InputError(
                f"{name} of {recipe.data} differs between machines; each must have the same images"
            )


def reload_splits(
    recipe: Recipe,
    folder: Path,
    callback: Callback,
    run_options: RunOptions,
    processes: Processes = ALONE,
) -> DataSplits:
    """The images that the run in ``folder`` was started with.

    Raises ``ValueError`` if they have changed.
    """
    splits = prepare_splits(recipe, callback, run_options, processes)
    record = processes.shared(lambda: load_record(folder))
    if record is None:
        if processes.leads:
            splits.record.save(folder)
        return splits
    order = splits.record
    if replace(record, window=order.window, machines=order.machines) != splits.record:
        raise InputError(
            f"the images of {recipe.data} are not those that {folder} was started with; "
            "restore them, or start a new run"
        )
    if record.window != order.window:
        limit, needed = f"a cache of {2 * record.window / 1e9!r} GB for shards", "that"
        if not record.window:
            limit = "a cache for shards twice as large as those of its training images"
            needed = f"more than {2 * order.window / 1e9!r}"
        raise InputError(
            f"{folder} was started with {limit}, which the order of its images depends on; set "
            f"RESNETKIT_SHARD_CACHE to {needed}"
        )
    return replace(splits, record=record)


def _readable(source: Dataset, digests: Mapping[str, str]) -> Dataset:
    def those(samples: Sequence[Sample]) -> Sequence[Sample]:
        return taken(samples, np.array([e.name in digests for e in samples], bool))

    parts = {part: those(found) for part, found in source.parts.items()}
    return replace(source, flat=those(source.flat), parts=parts)


def _recorded(samples: Sequence[Sample], digests: Mapping[str, str]) -> dict[str, str]:
    if isinstance(samples, Samples) and not digests:
        return samples.membership()
    return {sample.name: digests[sample.name] for sample in samples}


def _order(samples: Sequence[Sample], processes: Processes) -> tuple[int, int]:
    """What the order of the images depends on: the ``window`` and the ``machines`` of the record,
    the same for all processes."""
    streams = isinstance(samples, PackedSamples) and samples.streams
    window = samples.window if isinstance(samples, PackedSamples) and streams else 0
    if not processes.same(window):
        raise InputError(
            "the caches for shards differ between machines, and the order of the images depends on "
            "their size; set RESNETKIT_SHARD_CACHE to the same on each"
        )
    # With unlike numbers of processes, machines would count each other differently.
    return window, processes.shared(lambda: processes.machines) if window else 0


def _warn_of_copies(record: SplitRecord, callback: Callback) -> None:
    parts: tuple[Part, ...] = ("validation", "test")
    for part in parts:
        if copies := record.copies(part):
            callback.warn(
                f"{len(copies)} {part} image(s) are copies of training images, e.g. {copies[0]}; "
                "the measured accuracy will be too high"
            )

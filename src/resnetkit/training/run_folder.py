"""The run folder: its files, its lock, and whether it is free."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from resnetkit.data.datasets import readability, splits
from resnetkit.errors import InputError
from resnetkit.files import lock
from resnetkit.training import epoch_log
from resnetkit.training.recipe.recipe import Recipe

RECIPE, BEST, LAST = "recipe.toml", "best.safetensors", "last.safetensors"
#: The states of a run that is not finished, the newest first.
STATES = ("state.safetensors", "state-before.safetensors")
#: What a run that trains other weights further has to start from, until it is finished.
START = "start.safetensors"
#: The images of the batches whose loss was no number.
NAN = "nan-batches.txt"
#: The --rdzv-id of the launch of torchrun that has begun the run.
LAUNCH = "launch.txt"
#: What views put there.
REPORT = "report.html"
_SHOWN = ("curves.png", "confusion.png", REPORT)
#: A folder with TensorBoard's events.
EVENTS, _EVENT = "tensorboard", "events.out.tfevents.*"
#: Every file that a run makes.
FILES = (
    *(RECIPE, BEST, LAST, START, NAN, LAUNCH),
    *(splits.FILE, readability.FILE, epoch_log.FILE),
    *STATES,
    *_SHOWN,
)


def check_free(folder: Path, *, overwrite: bool = False) -> None:
    """Raise ``ValueError`` where ``folder`` cannot become that of a new run.

    With ``overwrite`` it may have the files of a run, but nothing else.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give another out", field="out")
    if folder.is_dir():
        names = {path.name for path in folder.iterdir() if not _is_temporary(path)}
        strange = sorted(names.difference({*FILES, EVENTS}))
        if RECIPE in names and not overwrite:
            raise InputError(
                f"{folder} is not empty, but has a run; go on with resnetkit.resume('{folder}'), "
                "start anew with overwrite, or give another out",
                field=("overwrite", "out"),
            )
        if strange:
            what = "which no run has made" if overwrite else "and is not empty"
            raise InputError(f"{folder} has {strange[0]}, {what}; give another out", field="out")
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(
            f"{folder} cannot be written, for {there} cannot; give another out", field="out"
        )


def make(folder: Path) -> None:
    """Make the folder. Raises ``ValueError`` where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from None


def clear(folder: Path) -> None:
    """Remove what an earlier run has left; the recipe last, for it says that there is a run."""
    for name in (*FILES[1:], RECIPE):
        (folder / name).unlink(missing_ok=True)
    remove_events(folder)
    remove_temporary(folder)


def remove_events(folder: Path) -> None:
    """Remove TensorBoard's events, and their folder where nothing else is in it."""
    for path in (folder / EVENTS).glob(_EVENT):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        (folder / EVENTS).rmdir()


def remove_temporary(folder: Path) -> None:
    """Remove what a process that was killed has half written."""
    for path in folder.iterdir():
        if _is_temporary(path):
            path.unlink(missing_ok=True)


def _is_temporary(path: Path) -> bool:
    """Whether ``files.atomic``, or safetensors within it, was writing it.

    safetensors writes ``.tmpXXXXXX`` beside a file and renames it, from its version 0.8 on.
    """
    name = path.name
    if re.fullmatch(r"\.tmp\w{6}", name):
        return True
    return name.startswith(".") and any(name[1:].startswith(f"{file}.") for file in FILES)


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a run folder. Raises ``ValueError`` where there is none."""
    path = folder / RECIPE
    if not path.is_file():
        raise InputError(f"{folder} is no run: it has no {RECIPE}; give the folder of a run")
    try:
        return Recipe.from_toml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


@contextmanager
def held_by_us(folder: Path) -> Iterator[None]:
    """No other process trains into ``folder`` meanwhile. Raises ``ValueError`` where one does.

    The lock is the operating system's, so that it ends with the process, however it ends.
    """
    try:
        with lock(folder):
            yield
    except BlockingIOError:
        raise InputError(
            f"another process trains into {folder}; wait for it, or give another out", field="out"
        ) from None

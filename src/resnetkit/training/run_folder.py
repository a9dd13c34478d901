"""The run folder: its files, its lock, and whether it is free."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from resnetkit.data.datasets import readability, splits
from resnetkit.errors import InputError
from resnetkit.files import check_local, lock
from resnetkit.training import epoch_log
from resnetkit.training.recipe.recipe import Recipe

RECIPE, BEST, LAST = "recipe.toml", "best.safetensors", "last.safetensors"
#: The states of an unfinished run, the newest first.
STATES = ("state.safetensors", "state-before.safetensors")
#: The initial weights of a fine-tuning run, until it is finished.
START = "start.safetensors"
#: The images of batches with non-finite losses.
NAN = "nan-batches.txt"
#: The --rdzv-id of the torchrun launch that started the run.
LAUNCH = "launch.txt"
#: Written by callbacks.
REPORT = "report.html"
#: Written by `resnetkit view --mistakes`; the report links to it.
MISTAKES = "mistakes.html"
_SHOWN = ("curves.png", "confusion.png", REPORT, MISTAKES)
#: The runs of experiment trackers that this run is logged to.
TRACKING = "tracking.json"
#: The folder of TensorBoard's events.
EVENTS, _EVENT = "tensorboard", "events.out.tfevents.*"
#: All files of a run.
FILES = (
    *(RECIPE, BEST, LAST, START, NAN, LAUNCH),
    *(splits.FILE, readability.FILE, epoch_log.FILE),
    *STATES,
    *_SHOWN,
    TRACKING,
)


def check_free(folder: Path, *, overwrite: bool = False) -> None:
    """Raise ``ValueError`` if ``folder`` cannot be used for a new run.

    With ``overwrite`` it may contain the files of a run, but nothing else.
    """
    check_local(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give another out", field="out")
    if folder.is_dir():
        names = {path.name for path in folder.iterdir() if not _is_temporary(path)}
        strange = sorted(names.difference({*FILES, EVENTS}))
        if RECIPE in names and not overwrite:
            raise InputError(
                f"{folder} already contains a run; continue with resnetkit.resume('{folder}'), "
                "start again with overwrite, or give another out",
                field=("overwrite", "out"),
            )
        if strange:
            what = "which is not a file of a run" if overwrite else "so it is not empty"
            raise InputError(
                f"{folder} contains {strange[0]}, {what}; give another out", field="out"
            )
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(
            f"{folder} cannot be written: {there} is not a writable folder; give another out",
            field="out",
        )


def make(folder: Path) -> None:
    """Create the folder. Raises ``ValueError`` if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {folder}: {error.strerror}") from None


def clear(folder: Path) -> None:
    """Remove the files of an earlier run; the recipe last, as it marks the folder as a run."""
    for name in (*FILES[1:], RECIPE):
        (folder / name).unlink(missing_ok=True)
    remove_events(folder)
    remove_temporary(folder)


def remove_events(folder: Path) -> None:
    """Remove TensorBoard's events, and their folder if empty."""
    for path in (folder / EVENTS).glob(_EVENT):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        (folder / EVENTS).rmdir()


def remove_temporary(folder: Path) -> None:
    """Remove partial files of a killed process."""
    for path in folder.iterdir():
        if _is_temporary(path):
            path.unlink(missing_ok=True)


def _is_temporary(path: Path) -> bool:
    """Whether it is a partial file of ``files.atomic`` or of safetensors within it.

    safetensors 0.8 and later writes ``.tmpXXXXXX`` beside a file and renames it.
    """
    name = path.name
    if re.fullmatch(r"\.tmp\w{6}", name):
        return True
    return name.startswith(".") and any(name[1:].startswith(f"{file}.") for file in FILES)


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a run folder. Raises ``ValueError`` if there is none."""
    path = folder / RECIPE
    if not path.is_file():
        raise InputError(f"{folder} is not a run: it has no {RECIPE}; give the folder of a run")
    try:
        return Recipe.from_toml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock ``folder``. Raises ``ValueError`` if another process trains into it.

    The lock is the operating system's, so it is released when the process ends.
    """
    try:
        with lock(folder):
            yield
    except BlockingIOError:
        raise InputError(
            f"another process trains into {folder}; wait for it, or give another out", field="out"
        ) from None

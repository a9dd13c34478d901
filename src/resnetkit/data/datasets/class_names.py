"""Class names for numeric labels, from a ``classes.txt`` beside the images."""

from __future__ import annotations

from pathlib import Path

from resnetkit.errors import InputError

#: Class names in order, one per line.
CLASSES = "classes.txt"


def listed_names(folder: Path) -> tuple[str, ...] | None:
    """The lines of ``classes.txt``, or None if it is missing. Raises ``ValueError``."""
    file = folder / CLASSES
    if not file.exists():
        return None
    try:
        return names_in(file.read_bytes(), str(file))
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error}); give names in UTF-8") from None


def names_in(content: bytes, where: str) -> tuple[str, ...]:
    """The lines of a ``classes.txt``. Raises ``ValueError`` if it is not UTF-8."""
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{where} cannot be read ({error}); give names in UTF-8") from None
    return tuple(line.strip() for line in lines if line.strip())


def numbered_names(folder: Path, highest: int, where: str) -> tuple[str, ...]:
    """The lines of ``classes.txt``, or the numbers from 0 to ``highest``, the highest label.

    Raises ``ValueError`` for fewer names than labels.
    """
    return numbered(listed_names(folder), highest, where)


def numbered(names: tuple[str, ...] | None, highest: int, where: str) -> tuple[str, ...]:
    """``names``, or the numbers from 0 to ``highest``; raises as ``numbered_names``."""
    if names is None:
        return tuple(str(number) for number in range(highest + 1))
    if highest >= len(names):
        raise InputError(
            f"{where} has the label {highest}, and {CLASSES} has {len(names)} names, from 0; "
            "add the missing names"
        )
    return names

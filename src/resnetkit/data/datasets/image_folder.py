"""Folders of class folders: splits, unpacked archives, files to skip."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from resnetkit.data.datasets.dataset import DIGITS, PART_OF, PARTS, SUFFIXES, Dataset, Part, Sample
from resnetkit.data.datasets.packed_samples import Packed
from resnetkit.data.datasets.stored_folder import StoredFile, StoredFolder
from resnetkit.errors import InputError

Place = Path | StoredFolder
Picture = Path | StoredFile

#: Leftovers of operating systems, archives and storage servers, in lower case; hidden files count
#: as well.
_LITTER = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "thumbs.db",
           "desktop.ini")  # fmt: skip


def is_litter(name: str) -> bool:
    """Whether a file or folder is a system leftover, not an image or a class."""
    return name.startswith(".") or name.lower() in _LITTER


def is_picture(name: str) -> bool:
    """Whether a file is an image, by its suffix."""
    return name.lower().endswith(SUFFIXES)


def left_out(endings: Mapping[str, int]) -> str:
    """A message about skipped files with the count of each suffix; empty for none."""
    total = sum(endings.values())
    each = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
    files = "file is" if total == 1 else "files are"
    return f"{total} {files} skipped by suffix: {each}" if total else ""


def ending_of(name: str) -> str:
    """The suffix of a file's name, as counted."""
    return os.path.splitext(name)[1].lower() or "without a suffix"


def folder(path: Place, *, least: int = 2) -> Dataset:
    """``path/CLASS/*.jpg`` (a flat folder) or ``path/train/CLASS/*.jpg`` with ``val`` and ``test``.

    Splits have any of the names in ``PART_OF``, in any case. Images may be nested below the class
    folder, following links to folders. A single enclosing folder is entered. Litter (``is_litter``)
    is ignored; other skipped files are listed in the source's ``notes``.

    Raises ``ValueError`` for a missing folder, one with fewer than ``least`` class folders with
    images, and for ambiguous nested folders.
    """
    if isinstance(path, Path) and not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}; give a folder of class folders, or {DIGITS}")
    notes: list[str] = []
    root = _unpacked(path)
    if root != path:
        notes.append(f"the class folders are those in {root}")
    inside = _folders(root)
    divided = {name: place for name, place in inside.items() if name.lower() in PART_OF}
    if divided and any(map(_holds_folders, divided.values())):
        return _divided(path, root, inside, divided, least, notes)
    if inside and len(divided) == len(inside) > 1:
        raise InputError(
            f"{root} has the splits {', '.join(inside)} and no class folders in them; put the "
            "images of each class into a folder of its own, in each split"
        )
    _check_not_nested(root, inside)
    endings: Counter[str] = Counter()
    found = {name: _files(place, endings) for name, place in inside.items()}
    classes = _classes(root, found, least, notes)
    beside = sum(is_picture(name) and not is_litter(name) for name in _names(root))
    if beside:
        notes.append(f"{beside} image(s) beside the class folders are skipped, e.g. in {root}")
    notes += filter(None, [left_out(endings)])
    flat = tuple(_examples(path, found, classes))
    return Dataset(name=str(path), classes=classes, flat=flat, parts={}, notes=tuple(notes))


def files_in(path: Path) -> list[Path]:
    """The images in a folder and its subfolders, sorted by path, without litter."""
    return [one for one in _files(path, Counter()) if isinstance(one, Path)]


def walked(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder below ``path`` with its files, following links except loops."""
    seen: set[str] = set()
    for place, folders, files in os.walk(path, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_litter(name))
        yield place, [name for name in files if not is_litter(name)]


def _files(path: Place, endings: Counter[str]) -> list[Picture]:
    """The images in a folder and its subfolders; counts the ``endings`` of other files."""
    if isinstance(path, StoredFolder):
        stored = sorted(path.every(is_litter), key=lambda one: one.name.split("/"))
        endings.update(ending_of(one.name) for one in stored if not is_picture(one.name))
        return [one for one in stored if is_picture(one.name)]
    found = []
    for place, files in walked(path):
        found += [Path(place, name) for name in files if is_picture(name)]
        endings.update(ending_of(name) for name in files if not is_picture(name))
    return [*sorted(found)]


def _names(path: Place) -> Iterable[str]:
    return path.files if isinstance(path, StoredFolder) else os.listdir(path)


def _folders(path: Place) -> dict[str, Place]:
    if isinstance(path, StoredFolder):
        return {name: path.folders[name] for name in sorted(path.folders) if not is_litter(name)}
    found = (entry for entry in path.iterdir() if not is_litter(entry.name))
    return {entry.name: entry for entry in sorted(found) if entry.is_dir()}


def _has_images(path: Place) -> bool:
    """Whether this folder itself contains images."""
    return any(is_picture(name) and not is_litter(name) for name in _names(path))


def _holds_folders(path: Place) -> bool:
    return bool(_folders(path)) and not _has_images(path)


def _unpacked(path: Place) -> Place:
    """The folder with class folders or splits, inside any enclosing folder."""
    while True:
        inside = _folders(path)
        if len(inside) != 1 or _has_images(path):
            return path
        ((name, only),) = inside.items()
        if name.lower() in PART_OF or _has_images(only):
            return path
        below = _folders(only)
        if not below or (len(below) == 1 and _has_images(next(iter(below.values())))):
            return path
        path = only


def _check_not_nested(root: Place, inside: Mapping[str, Place]) -> None:
    """Reject nested folders in which the classes are ambiguous."""
    if len(inside) < 2 or not all(map(_holds_folders, inside.values())):
        return
    below = {name: list(_folders(place)) for name, place in inside.items()}
    inner = sorted({name for names in below.values() for name in names})
    if len(inner) < 2:
        return
    first, *_ = inside
    raise InputError(
        f"{root} has nested folders, which can be read in two ways: as the classes "
        f"{_few(inside)}, with nested images, or as the classes {_few(inner)} in each of "
        f"{_few(inside)}; for the first put the images into {root / first} and so on, for the "
        f"second give one of them, {root / first}, or call them train, val and test"
    )


def _few(names: Iterable[str], most: int = 4) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _classes(
    root: Place, found: Mapping[str, Sequence[object]], least: int, notes: list[str]
) -> tuple[str, ...]:
    """The folders with images."""
    if not found:
        what = "images and no" if _has_images(root) else "no"
        how = "put the images of each class into its own folder"
        if isinstance(root, Path) and _has_images(root):
            how += f", or give {root}/{{label}}_* or another pattern if the names have the class"
        raise InputError(f"{root} has {what} class folders; {how}")
    empty = [name for name, files in found.items() if not files]
    classes = tuple(name for name in found if name not in empty)
    if len(classes) < least:
        which = f", {classes[0]}" if classes else ""
        hollow = f" ({_few(empty)} {'has' if len(empty) == 1 else 'have'} none)" if empty else ""
        number = "one class folder" if len(classes) == 1 else f"{len(classes)} class folders"
        raise InputError(
            f"{root} has {number} with images{which}{hollow}; at least {least} classes are needed, "
            f"and images end in {', '.join(s[1:] for s in SUFFIXES)}"
        )
    if empty:
        notes.append(f"class folder(s) of {root} without images are skipped: {_few(empty)}")
    return classes


def _examples(
    root: Place, found: Mapping[str, list[Picture]], classes: tuple[str, ...]
) -> Iterator[Sample]:
    for number, name in enumerate(classes):
        for file in found.get(name, ()):
            if isinstance(file, StoredFile):
                yield Packed(name=file.name, label=number, file=file, offset=0, size=file.size)
                continue
            assert isinstance(root, Path)
            yield Sample(name=file.relative_to(root).as_posix(), label=number, image=file)


def _divided(
    path: Place,
    root: Place,
    inside: Mapping[str, Place],
    divided: Mapping[str, Place],
    least: int,
    notes: list[str],
) -> Dataset:
    others = [name for name in inside if name not in divided]
    if others:
        raise InputError(
            f"{root} can be read in two ways: as the splits {_few(divided)}, with "
            f"{_few(others)} beside them, or as the classes {_few(inside)}; for the first move "
            f"{_few(others)} elsewhere, for the second put the images into {root / others[0]} and "
            "so on, and name no class like a split"
        )
    by_part: dict[Part, Place] = {}
    for name, place in divided.items():
        part = PART_OF[name.lower()]
        if part in by_part:
            raise InputError(
                f"{root} has both {by_part[part].name} and {name} for the {part} split; "
                "keep one of them"
            )
        by_part[part] = place
    if {"train", "test"} <= by_part.keys() and not _folders(by_part["test"]):
        notes.append(
            f"{by_part.pop('test')} has no class folders and is skipped; use it with `predict`"
        )
    for place in by_part.values():
        if not _folders(place):
            raise InputError(f"{place} has no class folders; put images into it, or remove it")
    endings: Counter[str] = Counter()
    found = {
        part: {name: _files(inner, endings) for name, inner in _folders(place).items()}
        for part, place in by_part.items()
    }
    if "train" in found:
        classes = _classes(by_part["train"], found["train"], least, notes)
    else:
        classes = tuple(sorted({n for names in found.values() for n, files in names.items()
                                if files}))  # fmt: skip
        _classes(root, {name: [root] for name in classes}, least, notes)
    for part, names in found.items():
        if not any(names.values()):
            raise InputError(f"{by_part[part]} has no images; put some into it, or remove it")
        extra = [name for name, files in names.items() if files and name not in classes]
        if extra:
            raise InputError(
                f"{by_part[part]} has the class folder(s) {_few(extra)}, which "
                f"{by_part['train']} lacks{_spelled_alike(extra, classes)}; add them there, or "
                "remove them"
            )
        empty = [name for name, files in names.items() if not files]
        if empty and part != "train":
            notes.append(
                f"class folder(s) of {by_part[part]} without images are skipped: {_few(empty)}"
            )
    notes += filter(None, [left_out(endings)])
    parts = {part: tuple(_examples(path, found[part], classes)) for part in PARTS if part in found}
    return Dataset(name=str(path), classes=classes, parts=parts, notes=tuple(notes))


def _spelled_alike(extra: Iterable[str], classes: Iterable[str]) -> str:
    """Why two similar names differ."""
    by_form = {unicodedata.normalize("NFC", name).casefold(): name for name in classes}
    for name in extra:
        other = by_form.get(unicodedata.normalize("NFC", name).casefold())
        if other is not None:
            same = unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", other)
            why = "has another Unicode normalisation (NFC and NFD)" if same else "differs in case"
            return f" ({other} {why})"
    return ""

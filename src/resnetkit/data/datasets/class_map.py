"""Maps folder names such as n01440764 to classes."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from resnetkit.errors import InputError

#: Allowed header cells of a table.
_HEADS = {("folder", "class"), ("name", "class"), ("wnid", "class"), ("synset", "words")}
#: Maximum bytes of a list of classes.
MOST_BYTES = 64 << 20


def mapped(path: str | Path, folders: Sequence[str], classes: Sequence[str]) -> dict[str, int]:
    """The index in ``classes`` of each of ``folders``, by the file at ``path``.

    It has a folder and a class per line: ``n01440764 tench, Tinca tinca`` (ImageNet's
    ``LOC_synset_mapping.txt``), two columns of CSV or TSV, or a JSON object: name to class, name to
    class index, or index to name and class (Keras' ``imagenet_class_index.json``). A class is
    looked up by its full name, then by the first of its comma-separated names. ImageNet has
    duplicate names (two cranes): if a file has one line per class, and every unambiguous class is
    at its own index, so are all others.

    Raises ``ValueError`` for an invalid file, a folder that is missing or mapped twice, an unknown
    class, and two folders of one class.
    """
    path = Path(path)
    entries = _entries(path)
    twice = [name for name, count in Counter(name for name, _ in entries).items() if count > 1]
    if twice:
        raise InputError(f"{path} maps {twice[0]} twice; keep one of the lines")
    numbers = _numbers(path, [wanted for _, wanted in entries], classes)
    known = dict(
        zip((name for name, _ in entries), zip(entries, numbers, strict=True), strict=True)
    )
    found: dict[str, int] = {}
    owners: dict[int, str] = {}
    for folder in folders:
        if folder not in known:
            raise InputError(
                f"{path} does not map {folder}, a class folder of the data; it maps "
                f"{_some([name for name, _ in entries])}"
            )
        (_, wanted), number = known[folder]
        if number is None:
            raise InputError(
                f"{path} maps {folder} to {wanted!r}, which the bundle does not know; it knows "
                f"{_some(classes)}"
            )
        other = owners.setdefault(number, folder)
        if other != folder:
            raise InputError(f"{path} maps both {other} and {folder} to {classes[number]!r}; "
                             "name a class for each")  # fmt: skip
        found[folder] = number
    return found


def _numbers(path: Path, wanted: Sequence[str | int], classes: Sequence[str]) -> list[int | None]:
    by_name = {name: number for number, name in enumerate(classes)}
    found: list[int | None] = []
    for one in wanted:
        if isinstance(one, int):
            if not 0 <= one < len(classes):
                raise InputError(f"{path} has the class index {one}, and the bundle has "
                                 f"{len(classes)} classes, from 0")  # fmt: skip
            found.append(one)
        else:
            found.append(by_name.get(one, by_name.get(one.split(",")[0].strip())))
    if len(found) == len(classes):
        often = Counter(found)
        sure = [(place, n) for place, n in enumerate(found) if n is not None and often[n] == 1]
        if 2 * len(sure) > len(found) and all(place == number for place, number in sure):
            return list(range(len(found)))
    return found


def _entries(path: Path) -> list[tuple[str, str | int]]:
    """Folder and class, in file order."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} is too large for a list of classes; give another file")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; give a table of folders and classes"
                         ) from None  # fmt: skip
    kind = path.suffix.lower()
    if kind == ".json":
        entries = _of_json(path, text)
    elif kind in (".csv", ".tsv"):
        entries = _of_table(path, text, "," if kind == ".csv" else "\t")
    else:
        entries = _of_lines(path, text)
    if not entries:
        raise InputError(f"{path} is empty; give a folder and a class per line")
    return entries


def _of_lines(path: Path, text: str) -> list[tuple[str, str | int]]:
    entries: list[tuple[str, str | int]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            name, _, wanted = line.strip().partition("\t" if "\t" in line else " ")
            if not wanted.strip():
                raise InputError(f"{path}, line {number}, has no class: {line.strip()[:60]!r}; "
                                 "lines are like n01440764 tench, Tinca tinca")  # fmt: skip
            entries.append((name.strip(), wanted.strip()))
    return entries


def _of_table(path: Path, text: str, delimiter: str) -> list[tuple[str, str | int]]:
    entries: list[tuple[str, str | int]] = []
    try:
        rows = list(csv.reader(text.splitlines(), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise InputError(f"{path} cannot be parsed: {error}") from None
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and tuple(map(str.lower, cells)) in _HEADS):
            continue
        if len(cells) != 2 or not all(cells):
            raise InputError(f"{path}, line {number}, has {len(cells)} columns or an empty one; "
                             "it must have two, folder and class")  # fmt: skip
        entries.append((cells[0], cells[1]))
    return entries


def _of_json(path: Path, text: str) -> list[tuple[str, str | int]]:
    pairs: list[tuple[str, object]] = []

    def keep(found: list[tuple[str, object]]) -> Mapping[str, object]:
        pairs[:] = found
        return dict(found)

    try:
        document = json.loads(text, object_pairs_hook=keep)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path} is not a JSON object of folders and classes")
    entries: list[tuple[str, str | int]] = []
    numbered: dict[int, tuple[str, str | int]] = {}
    for key, value in pairs:
        if isinstance(value, str) or type(value) is int:
            entries.append((key, value))
        elif (
            isinstance(value, list)
            and len(value) == 2
            and all(isinstance(word, str) for word in value)
            and key.isdecimal()
        ):
            numbered[int(key)] = (value[0], value[1])
        else:
            raise InputError(f"{path} has {json.dumps(value)[:60]} at {key!r}; it must be the name "
                             "or the index of a class")  # fmt: skip
    return [*entries, *(numbered[number] for number in sorted(numbered))]


def _some(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")

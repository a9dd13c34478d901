"""Labels from file names by a pattern: ``pictures/{label}_*``."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from resnetkit.data.datasets.dataset import Dataset, Sample
from resnetkit.data.datasets.image_folder import ending_of, is_picture, left_out, walked
from resnetkit.errors import InputError

#: The placeholder for the class in a pattern.
LABEL = "{label}"
#: Maximum number of wildcards; more make matching slow.
_MOST = 8


def is_pattern(data: str | Path) -> bool:
    """Whether ``data`` is a label pattern."""
    return LABEL in str(data)


def folder_of(data: str | Path) -> Path:
    """The folder of a pattern: the part before its first wildcard."""
    return _divided(data)[0]


def joined_pattern(data: str | None, pattern: str) -> str:
    """Join a folder and a name pattern. Raises ``InputError`` for an invalid pattern."""
    if LABEL not in pattern:
        text = f"{pattern} has no {LABEL}; mark the class in the names, e.g. '{LABEL}_*'"
        raise InputError(f"label_pattern {text}", field="label_pattern")
    if data is None:
        raise InputError("a label pattern requires a folder of images; give that too")
    return f"{data.rstrip('/')}/{pattern}"


def patterned(data: str, *, least: int = 2) -> Dataset:
    """The images that match a pattern: a folder, and names in it with ``{label}`` and ``*``.

    ``{label}`` is the class; ``*`` matches any text within a name, ``?`` one character. The suffix
    of an image may be omitted. Wildcards are greedy from the left: in ``great_dane_12.jpg``,
    ``{label}_*`` gives ``great_dane``. Images that do not match are counted in the notes. Raises
    ``ValueError`` for a missing folder, fewer than ``least`` classes, and an invalid pattern.
    """
    root, pattern = _divided(data)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; give FOLDER/{pattern} with an existing one")
    fits = _expression(pattern)
    depth = pattern.count("/")
    endings: Counter[str] = Counter()
    labels: dict[str, list[Path]] = {}
    others: list[str] = []
    for place, names in walked(root):
        inside = Path(place).relative_to(root)
        for name in sorted(names):
            path = (inside / name).as_posix()
            if not is_picture(name):
                endings[ending_of(name)] += path.count("/") == depth
                continue
            match = fits.fullmatch(path.rpartition(".")[0]) or fits.fullmatch(path)
            if match is None:
                others.append(path)
            else:
                labels.setdefault(match["label"], []).append(Path(place, name))
    if len(labels) < least:
        found = f"the class {next(iter(labels))} alone" if labels else "no class"
        some = f"; {others[0]} does not match" if others else ""
        raise InputError(
            f"the pattern {pattern} finds {found} in {root}, and at least {least} are needed{some}"
        )
    notes = [left_out(+endings)]
    if others:
        notes.append(f"{len(others)} image(s) do not match {pattern} and are skipped: {others[0]}")
    classes = tuple(sorted(labels))
    flat = tuple(
        Sample(name=file.relative_to(root).as_posix(), label=number, image=file)
        for number, label in enumerate(classes)
        for file in sorted(labels[label])
    )
    return Dataset(
        name=data, classes=classes, flat=flat, parts={}, notes=tuple(filter(None, notes))
    )


def _divided(data: str | Path) -> tuple[Path, str]:
    parts = Path(data).parts
    first = next(at for at, part in enumerate(parts) if re.search(r"\{label\}|[*?]", part))
    return Path(*parts[:first]), "/".join(parts[first:])


def _expression(pattern: str) -> re.Pattern[str]:
    tokens = re.split(r"(\{label\}|[*?])", pattern)
    if sum(token in (LABEL, "*", "?") for token in tokens) > _MOST:
        raise InputError(f"the pattern {pattern} has more than {_MOST} wildcards; give fewer")
    made, named = "", False
    for token in tokens:
        if token == LABEL:
            made += "(?P=label)" if named else "(?P<label>[^/]+)"
            named = True
        else:
            made += {"*": "[^/]*", "?": "[^/]"}.get(token, re.escape(token))
    return re.compile(made)

"""Selects the images to evaluate, and maps their labels to a model's classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from resnetkit.data.datasets.dataset import PARTS, Dataset, Part, Sample, Samples
from resnetkit.data.datasets.splits import SplitRecord
from resnetkit.errors import InputError


def matched(
    source: Dataset,
    examples: Sequence[Sample],
    classes: Sequence[str],
    numbers: Mapping[str, int] | None = None,
) -> Sequence[Sample]:
    """The examples with labels as indices of ``classes``, matched by name, or by ``numbers`` for
    other folder names (``class_map.mapped``).

    Raises ``ValueError`` for class folders that are not in ``classes``.
    """
    if numbers is None:
        numbers = {name: number for number, name in enumerate(classes)}
    unknown = [name for name in source.classes if name not in numbers]
    if unknown:
        known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        raise InputError(
            f"{source.name} has {len(unknown)} class folder(s) that the bundle does not know: "
            f"{', '.join(unknown[:10])}{', ...' if len(unknown) > 10 else ''}; it knows {known}"
        )
    if isinstance(examples, Samples):
        return examples.relabelled([numbers[name] for name in source.classes])
    return [replace(e, label=numbers[source.classes[e.label]]) for e in examples]


def chosen(
    source: Dataset, wanted: str | None, record: SplitRecord | None
) -> tuple[str, Sequence[Sample]]:
    """The split of a source to evaluate, and its name.

    ``wanted`` defaults to the test split, else the validation split, else the test images that the
    run held out from this folder (by ``record``), else all. Raises ``ValueError`` for a split that
    the source does not have.
    """
    if wanted == "all":
        return "all", source.examples
    held: dict[Part, Sequence[Sample]] = dict(source.parts)
    if source.flat and record is not None:
        held = {part: record.part_of(source.flat, part) for part in PARTS}
    usual: tuple[Part, ...] = ("test", "validation") if source.parts else ("test",)
    for part in usual if wanted is None else PARTS:
        if held.get(part) and wanted in (None, part):
            return part, held[part]
    if wanted is None:
        return "all", source.examples
    have = ", ".join(part for part in PARTS if held.get(part))
    hint = f"it has {have}" if have else "its images are in no split of the bundle's run"
    raise InputError(
        f"{source.name} has no {wanted} images: {hint}; split=all uses all", field="split"
    )

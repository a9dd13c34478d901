"""How well a network names labelled images: accuracy, per-class figures, confusion matrix."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support
from torch import Tensor

from resnetkit.bundle import load
from resnetkit.errors import InputError
from resnetkit.images.opening import open_source
from resnetkit.images.sources import DIGITS, PARTS, Example, Part, Source
from resnetkit.images.splits import SplitRecord, load_record
from resnetkit.prediction import Model, classified, device_named
from resnetkit.preprocess import Preprocess

#: Hands examples on, one by one.
Track = Callable[[Sequence[Example]], Iterable[Example]]
#: What ``--split`` may name.
SPLITS = (*PARTS, "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """One class. ``precision`` is None where it was never predicted, ``recall`` where it has no
    images, ``f1`` where it has neither; ``support`` is its number of images."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """What was measured on ``images`` images.

    ``accuracy`` and ``top5`` are shares from 0 to 1 (``top5`` is None for up to five classes),
    ``loss`` is the mean cross-entropy in nats, ``confusion[i, j]`` the number of images of class
    ``i`` named ``j``. ``classes`` has a row for each class that has images or was predicted,
    ``names`` goes with the rows and columns of ``confusion``. ``problems`` are the images that
    could not be read, with the reason; they count nowhere.
    """

    images: int
    accuracy: float
    top5: float | None
    loss: float
    names: tuple[str, ...]
    classes: tuple[ClassFigures, ...]
    confusion: npt.NDArray[np.int64]
    problems: tuple[tuple[str, str], ...]

    def measured(self) -> dict[str, Any]:
        """The figures a bundle keeps."""
        figures: dict[str, Any] = {
            "accuracy": self.accuracy,
            "loss": self.loss,
            "images": self.images,
        }
        return figures if self.top5 is None else {**figures, "top5": self.top5}

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON types."""
        return {
            **self.measured(),
            "classes": [
                {
                    "name": row.name,
                    "precision": row.precision,
                    "recall": row.recall,
                    "f1": row.f1,
                    "support": row.support,
                }
                for row in self.classes
            ],
            "confusion": {"names": list(self.names), "rows": self.confusion.tolist()},
            "unreadable": [{"image": name, "reason": reason} for name, reason in self.problems],
        }


def evaluate(
    model: Model,
    preprocess: Preprocess,
    classes: Sequence[str],
    examples: Sequence[Example],
    *,
    batch_size: int = 64,
    device: str = "cpu",
    track: Track = iter,
) -> Evaluation:
    """Measure ``model`` on examples whose labels are numbers of ``classes``; see ``matched``.

    ``track`` is handed the examples and hands them on, so that a view can show how far it is.

    The metrics are scikit-learn's. Raises ``ValueError`` where no image can be read.
    """
    answers: list[_Answer] = []
    problems: list[tuple[str, str]] = []
    images = (example.image for example in examples)
    results = classified(model, preprocess, images, batch_size=batch_size, device=device)
    for example, (read, logits) in zip(track(examples), results, strict=True):
        if logits is None:
            problems.append((read.name, read.problem or ""))
        else:
            answers.append(_answer(logits, example.label))
    if not answers:
        raise InputError(f"none of the {len(examples)} images can be read; give others")
    return _figures(answers, tuple(classes), tuple(problems))


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is kept of one image's logits."""

    label: int
    predicted: int
    in_top5: bool
    loss: float


def _answer(logits: Tensor, label: int) -> _Answer:
    best = logits.topk(min(5, len(logits))).indices.tolist()
    loss = F.cross_entropy(logits.double(), torch.tensor(label))
    return _Answer(label, best[0], label in best, float(loss))


def _figures(
    answers: Sequence[_Answer],
    classes: tuple[str, ...],
    problems: tuple[tuple[str, str], ...],
) -> Evaluation:
    truth = [answer.label for answer in answers]
    guess = [answer.predicted for answer in answers]
    shown = sorted({*truth, *guess})
    names = tuple(classes[number] for number in shown)
    scores = precision_recall_fscore_support(truth, guess, labels=shown, zero_division=np.nan)
    rows = tuple(
        ClassFigures(
            name=name,
            precision=_number(precision),
            recall=_number(recall),
            f1=_number(f1),
            support=int(support),
        )
        for name, precision, recall, f1, support in zip(names, *scores, strict=True)
    )
    top5 = fmean(answer.in_top5 for answer in answers) if len(classes) > 5 else None
    return Evaluation(
        images=len(answers),
        accuracy=float(accuracy_score(truth, guess)),
        top5=top5,
        loss=fmean(answer.loss for answer in answers),
        names=names,
        classes=rows,
        # scikit-learn warns of a single class; one that nothing belongs to is cut off again.
        confusion=confusion_matrix(truth, guess, labels=[*shown, -1])[:-1, :-1],
        problems=problems,
    )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def matched(source: Source, examples: Sequence[Example], classes: Sequence[str]) -> list[Example]:
    """The examples with the numbers that ``classes`` gives to their classes' names.

    Raises ``ValueError`` for class folders that ``classes`` has not.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    unknown = [name for name in source.classes if name not in numbers]
    if unknown:
        known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        raise InputError(
            f"{source.name} has {len(unknown)} class folder(s) that the bundle does not know: "
            f"{', '.join(unknown)}; it knows {known}"
        )
    return [replace(e, label=numbers[source.classes[e.label]]) for e in examples]


def chosen(
    source: Source, wanted: str | None, record: SplitRecord | None
) -> tuple[str, Sequence[Example]]:
    """The part of a source that is to be measured, and its name.

    Without ``wanted`` that is the test part, else the validation part, else what the run held back
    of this very folder for testing (``record`` says), else all. Raises ``ValueError`` for a part
    that the source has not.
    """
    if wanted == "all":
        return "all", source.examples
    held: dict[Part, tuple[Example, ...]] = dict(source.parts)
    if source.flat and record is not None:
        held = {part: record.part_of(source.flat, part) for part in PARTS}
    usual: tuple[Part, ...] = ("test", "validation") if source.parts else ("test",)
    for part in usual if wanted is None else PARTS:
        if held.get(part) and wanted in (None, part):
            return part, held[part]
    if wanted is None:
        return "all", source.examples
    have = ", ".join(part for part in PARTS if held.get(part))
    hint = f"it has {have}" if have else "its images are in no parts that the bundle's run knows"
    raise InputError(f"{source.name} has no {wanted} part: {hint}; --split all measures all")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measurement:
    """A bundle measured on ``part`` of ``data``.

    ``trained_on`` are the measured images that the bundle's run was trained on. ``run`` is the
    folder of that run, if the bundle still lies in one.
    """

    network: str
    data: str
    part: str
    evaluation: Evaluation
    trained_on: tuple[str, ...]
    run: Path | None

    @property
    def title(self) -> str:
        """What was measured, in a few words."""
        where = self.data if self.data == DIGITS else Path(self.data).resolve().name
        return f"{self.network} on {where} ({self.part})"

    def to_json(self) -> str:
        """All figures as text."""
        document = {
            "network": self.network,
            "data": self.data,
            "split": self.part,
            **self.evaluation.to_dict(),
            "trained_on": list(self.trained_on),
        }
        return json.dumps(document, indent=2)


def measure_bundle(
    path: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    batch_size: int = 64,
    device: str | None = None,
    track: Track = iter,
) -> Measurement:
    """Measure the bundle at ``path`` on ``data``, see ``chosen`` for ``split``.

    Raises ``ValueError`` for a bundle, data, a split or a device that cannot be used, and where no
    image can be read.
    """
    if batch_size < 1:
        raise InputError(f"--batch-size is {batch_size}; it takes a whole number from 1")
    bundle = load(path)
    source = open_source(data, least=1)
    folder = Path(path).resolve().parent
    record = load_record(folder)
    part, examples = chosen(source, split, record)
    examples = matched(source, examples, bundle.classes)
    place = device_named(device)
    evaluation = evaluate(
        bundle.module().to(place),
        bundle.preprocess,
        bundle.classes,
        examples,
        batch_size=batch_size,
        device=place,
        track=track,
    )
    return Measurement(
        network=bundle.network.name,
        data=str(data),
        part=part,
        evaluation=evaluation,
        trained_on=() if record is None else tuple(record.trained_on(examples)),
        run=None if record is None else folder,
    )

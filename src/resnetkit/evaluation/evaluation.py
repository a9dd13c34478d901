"""Classification metrics on labelled images: accuracy, calibration, per-class, confusion."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from resnetkit import display
from resnetkit.bundle.bundle import Bundle
from resnetkit.bundle.opening import as_model
from resnetkit.data.datasets.class_map import mapped
from resnetkit.data.datasets.dataset import DIGITS, Sample
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.packed_samples import images_in_order
from resnetkit.data.datasets.splits import load_record
from resnetkit.data.datasets.subset import chosen, matched
from resnetkit.data.decoding.decode import Image
from resnetkit.data.prefetch import Track
from resnetkit.errors import InputError
from resnetkit.evaluation.confidence import LEVEL, Calibration, calibration, cross_entropy, wilson
from resnetkit.inference.engines.engine import Engine, EngineName
from resnetkit.inference.engines.exported_model import Exported
from resnetkit.inference.engines.selection import open_engine
from resnetkit.inference.prediction import Vector, check_classes, predict_batches
from resnetkit.preprocess import Preprocess

#: Number of mistakes kept, most confident first.
MOST_MISTAKES = 24
#: Number of confusions of which mistakes are kept, most frequent first, and of their mistakes.
MOST_CONFUSIONS, MOST_CONFUSED = 30, 4
#: Maps all samples to a process's share, or shares to all.
Share = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """Metrics of one class. ``precision`` is None if it was never predicted, ``recall`` if it has
    no images, ``f1`` if neither; ``support`` is its number of images."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mistake:
    """An image of the class ``truth`` that was predicted as ``guess``.

    ``confidence`` is the softmax of ``guess``, ``chance`` that of ``truth``, both 0 to 1.
    ``indices`` are the indices of both classes, ``truth`` first: names may occur twice.
    """

    name: str
    image: Image
    truth: str
    guess: str
    confidence: float
    chance: float
    indices: tuple[int, int]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, with the image's name."""
        return {
            "image": self.name,
            "class": self.truth,
            "predicted": self.guess,
            "confidence": self.confidence,
            "probability": self.chance,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation(display.Displayed):
    """Metrics on ``images`` images.

    ``accuracy`` and ``top5`` are shares from 0 to 1 (``top5`` is None for up to five classes),
    ``accuracy_interval`` and ``top5_interval`` their 95 % intervals (``confidence.wilson``),
    ``loss`` is the mean cross-entropy in nats, ``confusion[i, j]`` the number of images of class
    ``i`` predicted as ``j``. ``classes`` has a row for each class that has images or was predicted,
    ``names`` labels the rows and columns of ``confusion``. ``mistakes`` are up to 24 wrong
    predictions, most confident first, ``confused`` up to 4 for each of the 30 most frequent
    confusions. ``problems`` are unreadable images with the reason; no metric counts them.
    """

    images: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    top5: float | None
    top5_interval: tuple[float, float] | None
    loss: float
    calibration: Calibration
    names: tuple[str, ...]
    classes: tuple[ClassFigures, ...]
    confusion: npt.NDArray[np.int64]
    mistakes: tuple[Mistake, ...]
    problems: tuple[tuple[str, str], ...]
    confused: tuple[Mistake, ...] = ()

    def measured(self) -> dict[str, Any]:
        """The metrics that a bundle stores, with their intervals."""
        top5 = {} if self.top5 is None else {"top5": self.top5}
        interval = {} if self.top5_interval is None else {"top5": list(self.top5_interval)}
        return {
            "accuracy": self.accuracy,
            "loss": self.loss,
            "images": self.images,
            **top5,
            "intervals": {
                "level": LEVEL,
                "method": "Wilson",
                "accuracy": list(self.accuracy_interval),
                **interval,
            },
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON types."""
        return {
            **self.measured(),
            "calibration": self.calibration.to_dict(),
            "classes": [asdict(figures) for figures in self.classes],
            "confusion": {"names": list(self.names), "rows": self.confusion.tolist()},
            "mistakes": [mistake.to_dict() for mistake in self.mistakes],
            "unreadable": [{"image": name, "reason": reason} for name, reason in self.problems],
        }


def evaluate_engine(
    engine: Engine,
    preprocess: Preprocess,
    classes: Sequence[str],
    examples: Sequence[Sample],
    *,
    batch_size: int = 64,
    track: Track = iter,
    share: Share = lambda items: items,
    joined: Share = lambda items: items,
) -> Evaluation:
    """Evaluate ``engine`` on examples whose labels are indices of ``classes``; see ``matched``.

    ``track`` wraps the examples to show progress. With several processes, ``share`` selects this
    process's examples, and ``joined`` gathers the results of all, in the order of the examples.

    The metrics are defined as in scikit-learn. Raises ``ValueError`` if no image can be read.
    """
    answers: list[_Answer] = []
    problems: list[tuple[str, str]] = []
    numbers = share(range(len(examples)))
    images = images_in_order(examples, numbers)
    results = predict_batches(engine, preprocess, images, batch_size=batch_size)
    for number, (found, logits) in zip(track(numbers), results, strict=True):
        if logits is None:
            problems.append((found.name, found.problem or ""))
        else:
            check_classes(logits, classes)
            answers.append(_answer(number, logits, examples[number].label))
    answers, problems = list(joined(answers)), list(joined(problems))
    if not answers:
        raise InputError(f"none of the {len(examples)} images can be read; give other images")
    evaluation = _figures(answers, tuple(classes), tuple(problems))
    wrong = sorted(
        (answer for answer in answers if answer.predicted != answer.label),
        key=lambda answer: -answer.confidence,
    )
    kept = {answer.number: _mistake(answer, examples, classes) for answer in wrong}
    mistakes = tuple(kept[answer.number] for answer in wrong[:MOST_MISTAKES])
    confused = tuple(kept[answer.number] for answer in _confused(wrong))
    return replace(evaluation, mistakes=mistakes, confused=confused)


@dataclass(frozen=True, slots=True)
class _Answer:
    """The results kept from the logits of one image, ``number`` of the examples."""

    number: int
    label: int
    predicted: int
    in_top5: bool
    loss: float
    confidence: float


def _answer(number: int, logits: Vector, label: int) -> _Answer:
    best = np.argsort(-logits, kind="stable")[:5].tolist()
    confidence = math.exp(-cross_entropy(logits, best[0]))
    return _Answer(number, label, best[0], label in best, cross_entropy(logits, label), confidence)


def _mistake(answer: _Answer, examples: Sequence[Sample], classes: Sequence[str]) -> Mistake:
    return Mistake(
        name=examples[answer.number].name,
        image=examples[answer.number].image,
        truth=classes[answer.label],
        guess=classes[answer.predicted],
        confidence=answer.confidence,
        chance=float(np.exp(-answer.loss)),
        indices=(answer.label, answer.predicted),
    )


def _confused(wrong: Sequence[_Answer]) -> Iterator[_Answer]:
    """The first of each of the most frequent confusions."""
    pairs = Counter((answer.label, answer.predicted) for answer in wrong)
    for pair, _ in pairs.most_common(MOST_CONFUSIONS):
        of_pair = (answer for answer in wrong if (answer.label, answer.predicted) == pair)
        yield from islice(of_pair, MOST_CONFUSED)


def _figures(
    answers: Sequence[_Answer],
    classes: tuple[str, ...],
    problems: tuple[tuple[str, str], ...],
) -> Evaluation:
    truth = np.array([answer.label for answer in answers])
    guess = np.array([answer.predicted for answer in answers])
    shown = np.union1d(truth, guess)
    names = tuple(classes[number] for number in shown)
    confusion = np.zeros((len(shown), len(shown)), np.int64)
    np.add.at(confusion, (np.searchsorted(shown, truth), np.searchsorted(shown, guess)), 1)
    rows = tuple(
        ClassFigures(
            name=name,
            precision=_ratio(hits, predicted),
            recall=_ratio(hits, support),
            f1=_ratio(2 * hits, predicted + support),
            support=support,
        )
        for name, hits, predicted, support in zip(
            names,
            confusion.diagonal().tolist(),
            confusion.sum(0).tolist(),
            confusion.sum(1).tolist(),
            strict=True,
        )
    )
    right = truth == guess
    near = sum(answer.in_top5 for answer in answers) if len(classes) > 5 else None
    return Evaluation(
        images=len(answers),
        accuracy=float(right.mean()),
        accuracy_interval=wilson(int(right.sum()), len(answers)),
        top5=None if near is None else near / len(answers),
        top5_interval=None if near is None else wilson(near, len(answers)),
        loss=fmean(answer.loss for answer in answers),
        calibration=calibration(np.array([answer.confidence for answer in answers]), right),
        names=names,
        classes=rows,
        confusion=confusion,
        mistakes=(),
        problems=problems,
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measurement(display.Displayed):
    """Evaluation of ``model`` on ``part`` of ``data``, by ``engine`` (``Engine.to_dict``).

    ``trained_on`` are the evaluated images that the bundle's run was trained on. ``run`` is the
    folder of that run, if the bundle is still in it. ``notes`` are messages about skipped data and
    assumptions. ``engine_reason`` says why ``auto`` chose the engine.
    """

    model: Bundle | Exported
    engine: Mapping[str, Any]
    data: str
    part: str
    evaluation: Evaluation
    trained_on: tuple[str, ...]
    run: Path | None
    notes: tuple[str, ...] = ()
    engine_reason: str = ""

    @property
    def title(self) -> str:
        """A short description of the model and data."""
        where = self.data if self.data == DIGITS else Path(self.data).resolve().name
        return f"{self.network} on {where} ({self.part})"

    @property
    def network(self) -> str:
        """The name of the evaluated network."""
        return self.model.network.name

    @property
    def warning(self) -> str | None:
        """What the measured images that were trained on mean; None where there are none."""
        if not self.trained_on:
            return None
        return (
            f"{len(self.trained_on)} of the measured images were trained on, e.g. "
            f"{self.trained_on[0]}; the accuracy looks better than it is"
        )

    def to_json(self) -> str:
        """All metrics as text."""
        document = {
            "network": self.network,
            "engine": dict(self.engine),
            "data": self.data,
            "split": self.part,
            **self.evaluation.to_dict(),
            "trained_on": list(self.trained_on),
        }
        return json.dumps(document, indent=2)


def evaluate(
    model: Bundle | Exported | str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    batch_size: int = 64,
    device: str | None = None,
    engine: EngineName = "auto",
    class_map: str | Path | None = None,
    track: Track = display.track,
) -> Measurement:
    """Evaluate a bundle or an exported file, open or as a path, on labelled images.

    ``data`` is as in ``train``; see ``chosen`` for ``split`` and ``open_engine`` for ``engine``.
    ``class_map`` is a file that maps the data's folders to classes, see ``mapped``. ``track`` wraps
    the images to show progress, by default in notebooks only. Accuracies and calibration errors are
    from 0 to 1, the loss is in nats.

    Raises ``ValueError`` for an unusable model, data, split, map or device, and if no image can be
    read.

    >>> found = resnetkit.evaluate(model, "digits", split="test", engine="torch")
    >>> 0 <= found.evaluation.accuracy <= 1
    True
    """
    if batch_size < 1:
        raise InputError(
            f"batch_size is {batch_size}; it must be a whole number from 1",
            field="batch_size",
        )
    bundle = as_model(model)
    source = open_dataset(data, least=1)
    folder = Path(model).resolve().parent if isinstance(model, str | Path) else None
    record = None if folder is None else load_record(folder)
    part, examples = chosen(source, split, record)
    numbers = mapped(class_map, source.classes, bundle.classes) if class_map is not None else None
    examples = matched(source, examples, bundle.classes, numbers)
    opened = open_engine(bundle, engine, device=device)
    evaluation = evaluate_engine(
        opened,
        bundle.preprocess,
        bundle.classes,
        examples,
        batch_size=batch_size,
        track=track,
    )
    return Measurement(
        model=bundle,
        engine=opened.to_dict(),
        engine_reason=opened.options.reason,
        data=str(data),
        part=part,
        evaluation=evaluation,
        trained_on=() if record is None else tuple(record.trained_on(examples)),
        run=None if record is None else folder,
        notes=source.notes,
    )

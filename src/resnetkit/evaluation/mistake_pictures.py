"""Why a picture was taken for another class: its maps for both, and pictures of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from resnetkit import display
from resnetkit.bundle.bundle import Bundle
from resnetkit.bundle.prediction import embed, predict
from resnetkit.data.datasets.class_map import mapped
from resnetkit.data.datasets.dataset import Sample
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.splits import load_record
from resnetkit.data.datasets.subset import matched
from resnetkit.data.prefetch import Track
from resnetkit.errors import InputError
from resnetkit.evaluation.evaluation import MOST_MISTAKES, Measurement, Mistake
from resnetkit.inference.engines.engine import EngineName
from resnetkit.inspect.layer_outputs import engine_for
from resnetkit.inspect.photo import photo_of
from resnetkit.inspect.picture import Object, Picture, looked, photo_url

#: The training pictures of a class among which the most similar one is looked for.
SOME = 50
#: The longer side of a similar picture, in pixels.
SIDE = 192


def mistake_pictures(
    measurement: Measurement,
    count: int = 12,
    *,
    class_map: str | Path | None = None,
    engine: EngineName = "auto",
    track: Track = display.track,
) -> list[Picture]:
    """The ``count`` most confident mistakes of an evaluation, as ``inspect.look`` shows them.

    The key ``mistake`` of each has the true class and the predicted one, ``truth`` and ``guess``:
    its index as ``class``, its ``label``, its ``probability``, and ``near``. That is the most
    similar picture, by the cosine of embeddings, among ``of`` training pictures of the class that
    are classified correctly: its ``name``, ``photo`` and ``similarity``; None where no training
    pictures are known. ``cams`` has the maps of both classes. Up to 50 training pictures of each
    class go through the network. ``class_map`` is that of the evaluation.

    Raises ``ValueError`` for a count outside 1 to 24, an exported file, whose maps are unknown, and
    a picture that can no longer be read.

    >>> found = resnetkit.evaluate(model, "digits", split="test", engine="torch")
    >>> pictures = resnetkit.evaluation.mistake_pictures(found, 1)
    >>> pictures[0]["mistake"]["truth"]["class"] == pictures[0]["mistake"]["guess"]["class"]
    False
    """
    if not 1 <= count <= MOST_MISTAKES:
        raise InputError(f"count is {count}; it must be from 1 to {MOST_MISTAKES}", field="count")
    if not isinstance(measurement.model, Bundle):
        raise InputError(
            "the evaluated model is an exported file, of which only the output is known; give the "
            "bundle that it was made from",
            field="model",
        )
    bundle, mistakes = measurement.model, measurement.evaluation.mistakes[:count]
    opened = engine_for(bundle, engine)
    trained = _trained_on(measurement, bundle, mistakes, class_map)
    similar = _Similar(bundle, mistakes, trained, opened)
    return [
        _picture(bundle, mistake, opened, similar.to(number))
        for number, mistake in enumerate(track(mistakes))
    ]


def _picture(
    bundle: Bundle, mistake: Mistake, engine: EngineName, near: Mapping[int, Object]
) -> Picture:
    found = looked(bundle, mistake.image, engine, also=mistake.indices)
    found["name"] = mistake.name
    chances = (mistake.chance, mistake.confidence)
    found["mistake"] = {
        key: {
            "class": number,
            "label": bundle.classes[number],
            "probability": chance,
            "near": near.get(number),
        }
        for key, number, chance in zip(("truth", "guess"), mistake.indices, chances, strict=True)
    }
    return found


class _Similar:
    """Of ``samples``, the correctly classified one of each class that is most similar to a mistake,
    by the cosine of their embeddings."""

    def __init__(
        self,
        bundle: Bundle,
        mistakes: Sequence[Mistake],
        samples: Sequence[Sample],
        engine: EngineName,
    ) -> None:
        answers = predict(bundle, [one.image for one in samples], topk=1, engine=engine)
        self.bundle, self.mistakes = bundle, mistakes
        self.samples = [
            sample
            for sample, answer in zip(samples, answers, strict=True)
            if answer.problem is None and answer.label == bundle.classes[sample.label]
        ]
        self.cosines = np.empty((len(mistakes), 0))
        if self.samples:
            images = [*(one.image for one in mistakes), *(one.image for one in self.samples)]
            vectors = embed(bundle, images, engine=engine).astype(np.float64)
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors /= np.where(lengths > 0, lengths, 1)
            self.cosines = vectors[: len(mistakes)] @ vectors[len(mistakes) :].T

    def to(self, number: int) -> dict[int, Object]:
        """The most similar pictures of both classes of a mistake, by class."""
        found = {}
        for label in self.mistakes[number].indices:
            of_class = [i for i, sample in enumerate(self.samples) if sample.label == label]
            if of_class:
                best = max(of_class, key=lambda index: float(self.cosines[number, index]))
                sample = self.samples[best]
                found[label] = {
                    "name": sample.name,
                    "photo": photo_url(photo_of(sample.image, self.bundle.preprocess), SIDE),
                    "similarity": float(self.cosines[number, best]),
                    "of": len(of_class),
                }
        return found


def _trained_on(
    measurement: Measurement,
    bundle: Bundle,
    mistakes: Sequence[Mistake],
    class_map: str | Path | None,
) -> list[Sample]:
    """Up to ``SOME`` training pictures of each class of the mistakes, as far as they are known: by
    the record of the run, else by the folders of the data."""
    wanted = sorted({number for one in mistakes for number in one.indices})
    if not wanted:
        return []
    source = open_dataset(measurement.data, least=1)
    numbers = None
    if class_map is not None:
        numbers = mapped(class_map, source.classes, bundle.classes)
    record = None if measurement.run is None else load_record(measurement.run)
    given = source.parts.get("train", ())
    if record is not None:
        names = record.parts["train"]
        given = tuple(one for one in source.examples if one.name in names)
    examples = matched(source, given, bundle.classes, numbers)
    found: list[Sample] = []
    for number in wanted:
        of_class = [one for one in examples if one.label == number]
        found += of_class[:: -(-len(of_class) // SOME) or 1]
    # The content is compared too, which reads the files.
    return found if record is None else list(record.part_of(found, "train"))

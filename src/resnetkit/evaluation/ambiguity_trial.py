"""Resolves ambiguous facts of a checkpoint by evaluating every candidate on labelled images."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from resnetkit.architecture.options import Options
from resnetkit.architecture.parameters import tensors
from resnetkit.bundle.bundle import Bundle, load
from resnetkit.checkpoints.identification import identify, is_bundle
from resnetkit.data.datasets.dataset import Dataset, Sample
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.splits import load_record
from resnetkit.data.datasets.subset import chosen, matched
from resnetkit.data.prefetch import Track
from resnetkit.errors import AssumptionWarning, InputError
from resnetkit.evaluation.confidence import cross_entropy
from resnetkit.formats.opening import Container, open_container
from resnetkit.hub.load_options import LoadOptions
from resnetkit.hub.loading import load_checkpoint
from resnetkit.inference.engines.selection import installed, open_engine
from resnetkit.inference.prediction import DecodedImage, Vector, predict_batches

#: Below this p-value, the best candidate is called right.
SURE = 0.01
#: Maximum number of combinations.
MOST = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to read the file: ``facts`` by name, and its metrics.

    ``accuracy`` is a share from 0 to 1, ``loss`` the mean cross-entropy in nats, ``right`` says for
    each image whether its class was predicted.
    """

    facts: Mapping[str, Any]
    accuracy: float
    loss: float
    right: tuple[bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AmbiguityTrial:
    """The candidates of ``facts``, best first, on ``images`` images of ``part`` of ``data``.

    ``chance`` is the p-value of the best one's lead over the second: the exact McNemar test,
    two-sided, over the images on which they disagree in correctness. ``problems`` are unreadable
    images with the reason. ``in_order`` means that the file has no class names and the data's were
    used in alphabetical order.
    """

    file: str
    data: str
    part: str
    images: int
    candidates: tuple[Candidate, ...]
    chance: float
    problems: tuple[tuple[str, str], ...]
    in_order: bool

    @property
    def is_sure(self) -> bool:
        """Whether the result is significant."""
        return self.chance < SURE

    def to_json(self) -> str:
        """Everything but the individual images as text."""
        document = {
            "file": self.file,
            "data": self.data,
            "split": self.part,
            "images": self.images,
            "candidates": [
                {"facts": dict(c.facts), "accuracy": c.accuracy, "loss": c.loss}
                for c in self.candidates
            ],
            "chance": self.chance,
            "answer": dict(self.candidates[0].facts) if self.is_sure else None,
            "classes_in_order": self.in_order,
            "unreadable": [{"image": name, "reason": reason} for name, reason in self.problems],
        }
        return json.dumps(document, indent=2)


def try_facts(
    path: str | Path,
    data: str | Path,
    facts: Sequence[str],
    *,
    split: str | None = None,
    batch_size: int = 64,
    device: str | None = None,
    track: Track = iter,
    **given: Any,
) -> AmbiguityTrial:
    """Evaluate the file at ``path`` with every value of ``facts``, e.g. ``["stride_on"]``.

    ``path`` is a bundle or a checkpoint of any framework, ``facts`` are open facts listed by
    ``identify`` (for a bundle: options with few values that the tensors do not show). All
    combinations are evaluated; other open facts are as ``given``, or as documented. Raises
    ``ValueError`` for a fact that is not open, too many combinations, and as ``evaluate``.
    """
    found = list(_candidates(Path(path), facts, given))
    source = open_dataset(data, least=1)
    part, examples = chosen(source, split, load_record(Path(path).resolve().parent))
    classes, in_order = _classes(found[0][1], source)
    examples = matched(source, examples, classes)
    candidates: list[Candidate] = []
    problems: tuple[tuple[str, str], ...] = ()
    for values, bundle in found:
        engine = open_engine(bundle, "torch" if installed("torch") else "auto", device=device)
        images = (example.image for example in track(examples))
        results = predict_batches(engine, bundle.preprocess, images, batch_size=batch_size)
        candidate, problems = _measured(values, examples, results)
        candidates.append(candidate)
    candidates.sort(key=lambda c: (-c.accuracy, c.loss))
    return AmbiguityTrial(
        file=str(path),
        data=str(data),
        part=part,
        images=len(candidates[0].right),
        candidates=tuple(candidates),
        chance=_chance(candidates[0].right, candidates[1].right),
        problems=problems,
        in_order=in_order,
    )


def _candidates(
    path: Path, facts: Sequence[str], given: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], Bundle]]:
    """The bundle for each combination of the facts' values."""
    container = open_container(path)
    bundle = load(path) if is_bundle(container) else None
    if bundle is not None and given:
        raise InputError(f"{path} is a bundle, which is complete; leave out {min(given)}")
    values = _of_checkpoint(container, given) if bundle is None else _of_bundle(bundle)
    for fact in facts:
        if fact not in values:
            raise InputError(
                f"{fact} is not open in {path}; open facts are {', '.join(values) or 'none'}"
            )
    facts = list(dict.fromkeys(facts))
    combinations = list(product(*(values[fact] for fact in facts)))
    if not 2 <= len(combinations) <= MOST:
        raise InputError(
            f"facts={facts!r} makes {len(combinations)} combinations; "
            f"give facts with 2 to {MOST} combinations",
            field="facts",
        )
    for combination in combinations:
        stated = dict(zip(facts, combination, strict=True))
        if bundle is None:
            yield stated, _loaded(path, {**given, **stated})
        else:
            yield stated, replace(bundle, network=bundle.network.override(**stated))


def _of_checkpoint(file: Container, given: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    ambiguous = identify(file, prefix=given.get("prefix"), ema=given.get("ema")).reading.ambiguous
    return {a.fact: a.candidates for a in ambiguous if given.get(a.fact) is None}


def _of_bundle(bundle: Bundle) -> dict[str, tuple[Any, ...]]:
    """Options that do not affect the tensors."""
    network = bundle.network
    found: dict[str, tuple[Any, ...]] = {}
    for option in fields(Options):
        values = []
        for choice in option.metadata["choices"]:
            try:
                same = tensors(network.override(**{option.name: choice})) == tensors(network)
            except InputError:
                continue
            values += [choice] if same else []
        if len(values) > 1:
            found[option.name] = tuple(values)
    return found


def _classes(bundle: Bundle, source: Dataset) -> tuple[tuple[str, ...], bool]:
    """The bundle's class names; the data's if the file has only indices."""
    numbers = tuple(str(number) for number in range(len(bundle.classes)))
    in_order = bundle.classes == numbers and len(source.classes) == len(numbers)
    in_order = in_order and source.classes != tuple(sorted(numbers))
    return (source.classes if in_order else bundle.classes), in_order


def _measured(
    facts: dict[str, Any],
    examples: Sequence[Sample],
    results: Iterable[tuple[DecodedImage, Vector | None]],
) -> tuple[Candidate, tuple[tuple[str, str], ...]]:
    right: list[bool] = []
    losses: list[float] = []
    problems: list[tuple[str, str]] = []
    for example, (read, logits) in zip(examples, results, strict=True):
        if logits is None:
            problems.append((read.name, read.problem or ""))
            continue
        right.append(int(logits.argmax()) == example.label)
        losses.append(cross_entropy(logits, example.label))
    if not right:
        raise InputError(f"none of the {len(examples)} images can be read; give other images")
    candidate = Candidate(
        facts=facts, accuracy=fmean(right), loss=fmean(losses), right=tuple(right)
    )
    return candidate, tuple(problems)


def _chance(best: Sequence[bool], second: Sequence[bool]) -> float:
    """The exact McNemar test (Edwards 1948, without its approximation)."""
    only_best = sum(a and not b for a, b in zip(best, second, strict=True))
    only_second = sum(b and not a for a, b in zip(best, second, strict=True))
    if only_best + only_second == 0:
        return 1.0
    trials, least = only_best + only_second, min(only_best, only_second)
    tail: int = sum(math.comb(trials, k) for k in range(least + 1))
    return min(1.0, 2 * tail * 0.5**trials)


def _loaded(path: Path, facts: Mapping[str, Any]) -> Bundle:
    """The file with these facts; other open facts are the same in all candidates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        return load_checkpoint(path, LoadOptions.of(facts))

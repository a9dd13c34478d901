"""Predictions as lines, CSV or JSON, written as they come; what is unreadable goes to stderr."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import IO

from resnetkit.prediction import Prediction
from resnetkit.views.run import percent, say, tell_unreadable


def write_table(predictions: Iterable[Prediction], file: IO[str]) -> int:
    """Each image and under it its classes, best first. Returns the number of images skipped."""
    readable = _Readable(predictions)
    for prediction in readable:
        say(prediction.name, "bold", file)
        for guess in prediction.guesses:
            say(f"  {percent(guess.probability):>8}  {guess.label}", file=file)
    return readable.skipped


def write_csv(predictions: Iterable[Prediction], file: IO[str]) -> int:
    """Lines ``image,rank,class,probability`` with a heading. Returns the number skipped."""
    readable = _Readable(predictions)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["image", "rank", "class", "probability"])
    for prediction in readable:
        for rank, guess in enumerate(prediction.guesses, start=1):
            writer.writerow([prediction.name, rank, guess.label, f"{guess.probability:.6f}"])
    return readable.skipped


def write_json(predictions: Iterable[Prediction], file: IO[str]) -> int:
    """A JSON array with a line for each image. Returns the number of images skipped."""
    readable = _Readable(predictions)
    before = "[\n"
    for prediction in readable:
        file.write(before + json.dumps(prediction.to_dict(), ensure_ascii=False))
        before = ",\n"
    file.write("[]\n" if before == "[\n" else "\n]\n")
    return readable.skipped


WRITERS: dict[str, Callable[[Iterable[Prediction], IO[str]], int]] = {
    "table": write_table,
    "csv": write_csv,
    "json": write_json,
}


class _Readable:
    """The predictions without those of unreadable images, which are named on stderr."""

    def __init__(self, predictions: Iterable[Prediction]) -> None:
        self._predictions = predictions
        self.skipped = 0

    def __iter__(self) -> Iterator[Prediction]:
        for prediction in self._predictions:
            if prediction.problem is None:
                yield prediction
            else:
                self.skipped += 1
                sys.stdout.flush()
                tell_unreadable(prediction.name, prediction.problem)

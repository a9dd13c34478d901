"""Predictions printed or written as they come; what is unreadable is named on stderr as well."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from resnetkit.data.counting import counted
from resnetkit.data.listing import Listed
from resnetkit.errors import printable
from resnetkit.files import atomic
from resnetkit.inference.engines.engine import Output
from resnetkit.inference.prediction import Prediction
from resnetkit.inference.results.formats import Format, open_format
from resnetkit.inference.results.resumable_file import Recording
from resnetkit.report.console.lines import percent, say, tell_unreadable
from resnetkit.report.console.progress import passing


def show(
    answer: Callable[[Iterable[Listed]], Iterable[Prediction]],
    images: Iterable[Listed],
    paths: Sequence[str],
    kind: str,
    out: Path | None,
    run: Mapping[str, Any],
    output: Output,
    features: int,
) -> int:
    """Print what ``answer`` says of the images, or write it to ``out``; how many are unreadable.

    ``kind`` is the format, ``run`` what an interrupted run has to have in common with the one that
    goes on, ``features`` the length of an embedding. Raises ``InputError`` for a file that cannot
    be written.
    """
    if out is None or kind == "table":
        with ExitStack() as stack:
            file = sys.stdout
            if out is not None:
                temporary = stack.enter_context(atomic(out))
                file = stack.enter_context(temporary.open("w", encoding="utf-8"))
            predictions = iter(answer(images))
            if not file.isatty():  # on a terminal, the answers themselves show how far it is
                tell = stack.enter_context(passing(counted(paths)))
                predictions = _telling(predictions, tell)
            if kind == "table":
                return write_table(predictions, file)
            return write_text(predictions, open_format(kind, output, features), file)
    recording = Recording(out, open_format(kind, output, features), run)
    if recording.done:
        print(f"resnetkit: {recording.done:,} images are in {out} already", file=sys.stderr)
    with passing(counted(paths), recording.done) as tell:

        def told(prediction: Prediction) -> None:
            tell_problem(prediction)
            tell()

        try:
            return recording.write(images, answer, told)
        except KeyboardInterrupt:
            print("resnetkit: the same command goes on from here", file=sys.stderr)
            raise


def _telling(predictions: Iterable[Prediction], tell: Callable[[], None]) -> Iterator[Prediction]:
    for prediction in predictions:
        yield prediction
        tell()


def write_table(predictions: Iterable[Prediction], file: IO[str]) -> int:
    """Each image and under it its classes, best first, or the first numbers of its embedding.

    Returns the number of images skipped.
    """
    skipped = 0
    for prediction in predictions:
        if prediction.problem is not None:
            skipped += tell_problem(prediction)
            continue
        say(printable(prediction.name), "bold", file)
        if prediction.embedding is not None:
            numbers = "  ".join(f"{value:.4f}" for value in prediction.embedding[:8])
            say(f"  {numbers}  ... ({len(prediction.embedding)} numbers)", file=file)
        for guess in prediction.guesses:
            say(f"  {percent(guess.probability):>8}  {printable(guess.label)}", file=file)
    return skipped


def write_text(predictions: Iterable[Prediction], layout: Format, file: IO[str]) -> int:
    """The predictions in a text format. Returns the number of images skipped."""
    file.write(layout.head.decode())
    skipped, first = 0, True
    for prediction in predictions:
        skipped += tell_problem(prediction)
        file.write(layout.chunk([prediction], first=first).decode())
        first = False
    file.write(layout.tail(empty=first).decode())
    return skipped


def tell_problem(prediction: Prediction) -> bool:
    """Whether an image is unreadable; if so it is named on stderr."""
    if prediction.problem is None:
        return False
    sys.stdout.flush()
    tell_unreadable(prediction.name, prediction.problem)
    return True

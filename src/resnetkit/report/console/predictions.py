"""Prints predictions as they come; unreadable images are listed on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from resnetkit.bundle.bundle import Bundle
from resnetkit.data.listing import ImageSource
from resnetkit.errors import printable
from resnetkit.files import atomic
from resnetkit.inference.engines.exported_model import Exported
from resnetkit.inference.prediction import Prediction
from resnetkit.inference.predictor import Predictor
from resnetkit.inference.results.formats import Format, open_format
from resnetkit.report.console.lines import percent, say, tell_unreadable
from resnetkit.report.console.progress import passing


def show(predictor: Predictor, images: ImageSource, kind: str, out: Path | None) -> int:
    """Print the predictions in the format ``kind``, or write a table to ``out``; return the number
    of unreadable images. Raises ``InputError`` for a file that cannot be written."""
    with ExitStack() as stack:
        file = sys.stdout
        if out is not None:
            temporary = stack.enter_context(atomic(out))
            file = stack.enter_context(temporary.open("w", encoding="utf-8"))
        predictions = predictor.predict(images)
        if not file.isatty():  # on a terminal, the predictions themselves show the progress
            images.start_counting()
            predictions = _counted(predictions, stack.enter_context(passing(images.total)))
        if kind == "table":
            return write_table(predictions, file)
        options = predictor.engine.options
        return write_text(predictions, open_format(kind, options.output, options.features), file)


def tell_unnamed(model: Bundle | Exported) -> None:
    """Say on stderr how to name the classes of a converted checkpoint, if they have no names."""
    origin, count = model.origin, len(model.classes)
    converted = origin.get("made_by") == "resnetkit convert" and not origin.get("class_names")
    if not converted or model.classes != tuple(map(str, range(count))):
        return
    imagenet = "; those that `resnetkit fetch` makes have ImageNet's names" if count == 1000 else ""
    print(
        f"resnetkit: the {count} classes have no names, only numbers; to name them, convert the "
        "checkpoint with a config.json beside it that has label_names (timm) or id2label "
        f"(transformers){imagenet}",
        file=sys.stderr,
    )


def show_file(predictor: Predictor, images: ImageSource, kind: str, out: Path) -> int:
    """Write the predictions to ``out`` with progress on stderr; see ``predict_to_file``."""
    images.start_counting()
    with ExitStack() as stack:
        tell: Callable[[], None]

        def on_start(done: int) -> None:
            nonlocal tell
            if done:
                print(f"resnetkit: {done:,} images are already in {out}", file=sys.stderr)
            tell = stack.enter_context(passing(images.total, done))

        def on_prediction(prediction: Prediction) -> None:
            tell_problem(prediction)
            tell()

        try:
            return predictor.predict_to_file(
                images, out, kind, on_start=on_start, on_prediction=on_prediction
            )
        except KeyboardInterrupt:
            print("resnetkit: run the same command to continue", file=sys.stderr)
            raise


def _counted(predictions: Iterable[Prediction], tell: Callable[[], None]) -> Iterator[Prediction]:
    for prediction in predictions:
        yield prediction
        tell()


def write_table(predictions: Iterable[Prediction], file: IO[str]) -> int:
    """Print each image and its classes, best first, or the first numbers of its embedding.

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
        for guess in prediction.scores:
            say(f"  {percent(guess.probability):>8}  {printable(guess.label)}", file=file)
    return skipped


def write_text(predictions: Iterable[Prediction], layout: Format, file: IO[str]) -> int:
    """Print the predictions in a text format. Returns the number of images skipped."""
    file.write(layout.head.decode())
    skipped, first = 0, True
    for prediction in predictions:
        skipped += tell_problem(prediction)
        file.write(layout.chunk([prediction], first=first).decode())
        first = False
    file.write(layout.tail(empty=first).decode())
    return skipped


def tell_problem(prediction: Prediction) -> bool:
    """Whether an image is unreadable; if so it is listed on stderr."""
    if prediction.problem is None:
        return False
    sys.stdout.flush()
    tell_unreadable(prediction.name, prediction.problem)
    return True

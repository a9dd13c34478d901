"""Training curves and confusion matrices as images, by matplotlib."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from resnetkit.errors import InputError, printable
from resnetkit.evaluation.evaluation import Evaluation
from resnetkit.files import atomic
from resnetkit.training.epoch_log import EpochLog, best_of

if TYPE_CHECKING:  # it needs torch
    from resnetkit.training.lr_finder import LRFinderResult

_TRAIN, _VALIDATION, _GREY = "#3b6fb6", "#c8553d", "#777777"
#: Up to this many classes cells are numbered, and rows named.
_NUMBERED, _NAMED = 30, 60


def save_curves(rows: Sequence[EpochLog], path: Path) -> None:
    """Loss, accuracy and learning rate over the epochs."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    loss, accuracy, rate = figure.subplots(1, 3)
    epochs = [row.epoch for row in rows]
    held = [row.validation_loss for row in rows if row.validation_loss is not None]
    _lines(loss, epochs, [row.loss for row in rows], held)
    loss.set(title="loss (cross-entropy, nats)", yscale="log")
    loss.yaxis.set_major_formatter("{x:g}")
    held = [row.validation_accuracy for row in rows if row.validation_accuracy is not None]
    _lines(accuracy, epochs, [row.accuracy for row in rows], held)
    accuracy.set(title="accuracy")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    best = best_of(rows)
    if best.validation_accuracy is not None:
        accuracy.plot(best.epoch, best.validation_accuracy, "o", color=_VALIDATION)
        accuracy.annotate(
            f"best: epoch {best.epoch}, {best.validation_accuracy:.2%}",
            (best.epoch, best.validation_accuracy),
            xytext=(0.97, 0.5),
            textcoords="axes fraction",
            ha="right",
            arrowprops={"arrowstyle": "-", "color": _GREY},
        )
    accuracy.legend(loc="lower right", frameon=False)
    rate.plot(epochs, [row.lr for row in rows], color=_GREY, marker="." if len(rows) < 3 else "")
    rate.set(title="learning rate at the end of the epoch", ylim=(0, None))
    for axes in (loss, accuracy, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def save_confusion(evaluation: Evaluation, path: Path, title: str) -> None:
    """The confusion matrix: rows as shares of the true class, cells with numbers of images.

    Above 30 classes the numbers are omitted, above 60 most names.
    """
    names, counts = evaluation.names, evaluation.confusion
    size = float(np.clip(1.6 + 0.42 * len(names), 4.2, 16))
    figure = Figure(figsize=(size + 1.2, size + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, format=PercentFormatter(1.0))
    bar.set_label("share of the true class")
    if len(names) <= _NUMBERED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                ink = "white" if shares[row, column] > 0.55 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=ink, fontsize=9)
    step = -(-len(names) // _NAMED)
    places = range(0, len(names), step)
    labels = [_short(names[place]) for place in places]
    small = 9 if len(names) <= _NUMBERED else 7
    axes.set_yticks(places, labels, fontsize=small)
    turned = max(map(len, labels)) > 2
    axes.set_xticks(places, labels, fontsize=small, rotation=90 if turned else 0)
    axes.set(xlabel="predicted class", ylabel="true class")
    figure.suptitle(f"{title}\naccuracy {evaluation.accuracy:.2%} of {evaluation.images} images")
    _save(figure, path)


#: The supported suffixes.
PICTURES = (".png", ".svg", ".pdf")


def check_picture(path: Path) -> None:
    """Raise ``ValueError`` if ``path`` cannot be written as a picture."""
    if path.suffix.lower() not in PICTURES:
        raise InputError(
            f"{path} has no picture suffix; give a name that ends in {', '.join(PICTURES)}"
        )
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}")


def save_range(found: LRFinderResult, path: Path, title: str) -> None:
    """The loss over the learning rate of a range test, with the suggested rate."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    rates = [point.rate for point in found.points]
    axes.plot(rates, [p.loss for p in found.points], color=_GREY, alpha=0.4, label="of a batch")
    axes.plot(rates, [p.smoothed for p in found.points], color=_TRAIN, label="smoothed")
    axes.axvline(found.suggested, color=_VALIDATION, label=f"suggested: {found.suggested:g}")
    axes.axvline(found.lowest, color=_GREY, linestyle=":", label=f"lowest: {found.lowest:.2g}")
    highest = max(point.smoothed for point in found.points)
    axes.set(title=title, xlabel="learning rate", xscale="log", ylim=(0, 1.1 * highest))
    axes.set_ylabel("loss (cross-entropy, nats)")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", frameon=False)
    _save(figure, path, kind=path.suffix[1:].lower())


def _lines(axes: Axes, epochs: list[int], train: list[float], held: list[float]) -> None:
    marker = "." if len(epochs) < 3 else ""
    axes.plot(epochs, train, color=_TRAIN, label="training (varied images)", marker=marker)
    if held:
        axes.plot(epochs, held, color=_VALIDATION, label="validation", marker=marker)


def _short(name: str, most: int = 24) -> str:
    # A dollar sign would start a formula.
    name = printable(name).replace("$", r"\$")
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _save(figure: Figure, path: Path, kind: str = "png") -> None:
    with atomic(path) as temporary, warnings.catch_warnings():
        # The font may lack characters of class names; boxes replace them.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(temporary, format=kind, dpi=120)

"""HTML page of a run or an evaluation.

The template escapes all text from files, folders and recipes.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from resnetkit.architecture.explanation import explain
from resnetkit.architecture.layer import shape_text
from resnetkit.architecture.network import Network
from resnetkit.data.datasets.dataset import DIGITS
from resnetkit.errors import InputError
from resnetkit.evaluation.evaluation import Evaluation, Measurement
from resnetkit.inference.engines.autotune import machine
from resnetkit.preprocess import Preprocess
from resnetkit.report.console.lines import TRAINED_ON, as_chosen, percent, rule
from resnetkit.report.console.progress import clock
from resnetkit.report.pages import evaluation_tables
from resnetkit.report.pages.charts import Curves, Series, curves, reliability
from resnetkit.report.pages.evaluation_tables import Figure, measured
from resnetkit.report.pages.sketch import Sketch
from resnetkit.report.pages.templates import script, template
from resnetkit.training.epoch_log import EpochLog, best_of, read_log
from resnetkit.training.recipe.option_groups import described
from resnetkit.training.recipe.recipe import OPTIONS, SUBJECT, Recipe
from resnetkit.version import __version__

#: Seconds after which a browser reloads the page of an unfinished run.
AGAIN = 20
#: A first validation loss of so many times the training loss is explained.
LATE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeField:
    """A field of a recipe. ``changed``: it differs from the default."""

    name: str
    value: str
    about: str
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The constant parts of a run's page: the drawing, the recipe, machine and versions."""

    title: str
    network: Network
    preprocess: Preprocess
    sketch: Sketch
    size: str
    recipe: Mapping[str, list[RecipeField]]
    about: Mapping[str, str]


def setting(
    title: str,
    network: Network,
    preprocess: Preprocess,
    *,
    recipe: Recipe | None = None,
    about: Mapping[str, str],
) -> Setting:
    """The parts of a page that are rendered once; ``about`` describes data and engine."""
    shape = (preprocess.channel_count, preprocess.size, preprocess.size)
    explanation = explain(network, shape)
    return Setting(
        title=title,
        network=network,
        preprocess=preprocess,
        sketch=Sketch.of(explanation),
        size=f"{explanation.totals.macs:,} MACs for one image of {shape_text(shape)}",
        recipe={} if recipe is None else dict(_choices(recipe)),
        about={**about, **_machine()},
    )


def run_page(
    setting: Setting,
    recipe: Recipe,
    rows: list[EpochLog],
    evaluation: Evaluation | None = None,
    part: str = "test",
    command: str = "",
) -> str:
    """A run so far; ``evaluation`` is that of its best weights on ``part`` at the end, and
    ``command`` opens its mistakes."""
    done = len(rows)
    epochs = recipe.epochs if evaluation is None else done
    figures = [*measured(evaluation, part), *trained(rows, epochs)]
    if evaluation is not None:
        early = f" of {recipe.epochs}" if done < recipe.epochs else ""
        state = (
            f"finished after {done}{early} epochs; {part} images are measured with the best weights"
        )
    else:
        state = f"in training: {done} of {recipe.epochs} epochs are done"
    return _page(
        setting,
        rows,
        epochs,
        evaluation,
        figures=figures,
        state=state,
        part=part,
        command=command,
        again=AGAIN if evaluation is None else None,
        warning=f"measured on {TRAINED_ON}" if evaluation and part == "train" else None,
    )


def evaluation_page(measurement: Measurement) -> str:
    """The same page for any bundle or exported file on labelled images."""
    model, evaluation = measurement.model, measurement.evaluation
    engine = measurement.engine
    about = {
        "data": measurement.data,
        "images": f"{evaluation.images} ({measurement.part})",
        "engine": f"{engine['engine']} {engine['version']}, {engine['precision']}, on "
        f"{engine['device']}",
    }
    recipe, rows = _recipe_of(model.origin), []
    if recipe is not None and measurement.run is not None:
        rows = read_log(measurement.run)
    return _page(
        setting(measurement.title, model.network, model.preprocess, recipe=recipe, about=about),
        rows,
        len(rows),
        evaluation,
        figures=[*measured(evaluation, measurement.part), *trained(rows, len(rows))],
        state=f"measured on {evaluation.images} labelled images",
        part=measurement.part,
        command="resnetkit view BUNDLE --mistakes --data DATA",
        warning=measurement.warning,
    )


def title_of(recipe: Recipe) -> str:
    """The network and its data, as a title."""
    data = recipe.data if recipe.data == DIGITS else recipe.data.rstrip("/").rpartition("/")[2]
    return f"{recipe.network.name} on {data}"


def _page(
    setting: Setting, rows: list[EpochLog], epochs: int, evaluation: Evaluation | None, **shown: Any
) -> str:
    """The page; ``shown`` are additional template values."""
    page = template("run_page.html").render(
        setting=setting,
        rows=rows,
        late_statistics=_late_statistics(setting.network, rows),
        curves=training_curves(rows, epochs) if rows else [],
        script=script("curves"),
        evaluation=evaluation,
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z"),
        **({"again": None} | shown),
        **({} if evaluation is None else _found(evaluation)),
    )
    return str(page)


def _late_statistics(network: Network, rows: Sequence[EpochLog]) -> bool:
    """Whether the first validation loss is far above the training loss, as with batch norms whose
    running statistics have seen few steps."""
    if network.options.norm != "batch" or not rows or rows[0].validation_loss is None:
        return False
    return rows[0].validation_loss > LATE * rows[0].loss


def trained(rows: Sequence[EpochLog], epochs: int) -> Iterator[Figure]:
    """Figures of the ``epochs`` of a run, as far as they are done."""
    if not rows:
        return
    best, last = best_of(rows), rows[-1]
    if best.validation_accuracy is None:
        yield Figure(name="kept epoch", value=str(best.epoch), small=f"of {epochs}, {rule(rows)}")
    else:
        yield Figure(
            name="validation accuracy, best epoch",
            value=percent(best.validation_accuracy),
            small=f"epoch {best.epoch} of {epochs}, {rule(rows)}",
        )
    seconds = sum(row.seconds for row in rows)
    each = seconds / len(rows)
    left = f"; about {clock(each * (epochs - len(rows)))} left" if len(rows) < epochs else ""
    yield Figure(name="time", value=clock(seconds), small=f"{each:.1f} s per epoch{left}")
    yield Figure(
        name="images a second",
        value=f"{last.rate:,.0f}",
        small=f"{percent(last.waited)} of the time waiting for data; last epoch",
    )


def training_curves(rows: Sequence[EpochLog], epochs: int) -> list[Curves]:
    """Loss, accuracy and learning rate over the epochs."""
    best = best_of(rows)
    accuracy_there = best.validation_accuracy
    loss = _both([row.loss for row in rows], [row.validation_loss for row in rows])
    accuracy = _both([row.accuracy for row in rows], [row.validation_accuracy for row in rows])
    is_log = all(value > 0 for line in loss for value in line.values if value is not None)
    rate = Series(name="rate", label="learning rate", values=[row.lr for row in rows])
    return [
        curves(
            f"Loss (cross-entropy, nats{'; log scale' if is_log else ''})",
            loss,
            epochs=epochs,
            log=is_log,
        ),
        curves(
            "Accuracy",
            accuracy,
            epochs=epochs,
            form="percent",
            most=1.0,
            best=None if accuracy_there is None else (best.epoch, accuracy_there),
        ),
        curves("Learning rate at the end of the epoch", [rate], epochs=epochs),
    ]


def _both(train: Sequence[float], held: Sequence[float | None]) -> list[Series]:
    """The line of training, and that of validation if there is one."""
    found = [Series(name="train", label="training", values=train)]
    if any(value is not None for value in held):
        found.append(Series(name="held", label="validation", values=held))
    return found


def _found(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "matrix": evaluation_tables.matrix(evaluation),
        "confusions": evaluation_tables.confusions(evaluation),
        "behind": evaluation_tables.behind(evaluation),
        "classes": evaluation_tables.shown_classes(evaluation),
        "mistakes": [(one, evaluation_tables.thumbnail(one.image)) for one in evaluation.mistakes],
        "wrong": evaluation.images - int(evaluation.confusion.trace()),
        "reliability": reliability(evaluation.calibration),
    }


def _choices(recipe: Recipe) -> Iterator[tuple[str, list[RecipeField]]]:
    values = recipe.options()
    own = {name: field for name, field, _ in described(Recipe) if name in SUBJECT[:2]}
    training = {**own, **{name: field for name, (_, field, _) in OPTIONS.items()}}
    values |= {name: getattr(recipe, name) for name in own}
    yield "training", [_choice(name, field, values[name]) for name, field in training.items()]
    for title, group in (("augmentation", recipe.augment), ("preprocessing", recipe.preprocess)):
        yield title, [_choice(one.name, one, getattr(group, one.name)) for one in fields(group)]


def _choice(name: str, field: Field[Any], value: Any) -> RecipeField:
    return RecipeField(
        name=name,
        value=as_chosen(value),
        about=field.metadata.get("help", ""),
        changed=field.default is not MISSING and value != field.default,
    )


def _recipe_of(origin: Mapping[str, Any]) -> Recipe | None:
    """The training recipe recorded in a bundle, if any."""
    document = origin.get("recipe")
    try:
        return Recipe.from_dict(document) if isinstance(document, Mapping) else None
    except InputError:
        # A recipe of another version is omitted.
        return None


def _machine() -> dict[str, str]:
    facts = machine()
    return {
        "processor": f"{facts['processor']}, {facts['threads']} threads, {facts['system']}",
        "resnetkit": __version__,
        "Python": platform.python_version(),
        **{name: found for name in ("torch", "torchvision") if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

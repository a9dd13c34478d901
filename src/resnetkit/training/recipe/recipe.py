"""A training recipe: every hyperparameter, validated, as TOML."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, fields, replace
from typing import Any

import tomli_w

from resnetkit.architecture.layer import Norm
from resnetkit.architecture.network import Network
from resnetkit.architecture.shape_inference import walk
from resnetkit.errors import InputError, printable
from resnetkit.preprocess import Preprocess
from resnetkit.training.recipe.augmentation import Augment
from resnetkit.training.recipe.option_groups import (
    DataOptions,
    LossOptions,
    ModelOptions,
    OptimizerOptions,
    OptionGroup,
    RuntimeOptions,
    ScheduleOptions,
    check_options,
    described,
    option,
)

#: The batch size that is measured when the recipe is made.
AUTO = "auto"
#: Fields that are not options of how to train: data and weights of a run.
SUBJECT = ("data", "pretrained", "network", "preprocess", "augment")
#: The groups of options, by the recipe's field.
GROUPS: dict[str, Any] = {
    "optimizer": OptimizerOptions,
    "schedule": ScheduleOptions,
    "loss": LossOptions,
    "model": ModelOptions,
    "images": DataOptions,
    "runtime": RuntimeOptions,
}
#: Options of earlier versions, which had no groups.
_RENAMED = {
    "start": "pretrained",
    "epsilon": "eps",
    "decayed": "weight_decay_scope",
    "clip": "clip_grad",
    "accumulate": "grad_accum_steps",
    "drops": "milestones",
    "sync_norms": "sync_bn",
    "repeats": "aug_repeats",
    "ramp": "progressive_resizing",
    "test_flip": "flip_tta",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training run: its data, network and options.

    ``data`` is what ``open_dataset`` opens; ``pretrained`` names the weights that training starts
    from, None for new ones; ``preprocess`` is used for validation and kept in the bundle.

    Options outside their groups have names of their own, those of ``train`` and of its flags:
    ``recipe.optimizer.name`` is ``optimizer``, ``recipe.optimizer.lr`` is ``lr``.

    Raises ``ValueError`` for a value that is not allowed, and if the network cannot be applied to
    the images that ``preprocess`` makes.
    """

    data: str
    pretrained: str | None = None
    epochs: int = option("default: 20 for digits, 30 for a folder", least=1)
    batch_size: int = option(
        "images per step; default: 64 for digits, else 4 to 32; auto: the fastest, measured",
        least=1,
    )
    network: Network
    preprocess: Preprocess
    augment: Augment
    optimizer: OptimizerOptions
    schedule: ScheduleOptions = ScheduleOptions()
    loss: LossOptions = LossOptions()
    model: ModelOptions = ModelOptions()
    images: DataOptions = DataOptions()
    runtime: RuntimeOptions = RuntimeOptions()

    @classmethod
    def of(cls, **options: Any) -> Recipe:
        """A recipe from fields and options by their names outside the groups."""
        own, groups = _grouped(options)
        made: dict[str, Any] = {name: GROUPS[name](**values) for name, values in groups.items()}
        return cls(**own, **made)

    def override(self, **options: Any) -> Recipe:
        """A copy with other fields and options, named as in ``of``."""
        own, groups = _grouped(options)
        changed = {name: replace(getattr(self, name), **v) for name, v in groups.items()}
        return replace(self, **own, **changed)

    def options(self) -> dict[str, Any]:
        """All options by their names outside the groups."""
        return {
            name: getattr(self._group(place), f.name) for name, (place, f, _) in OPTIONS.items()
        }

    def _group(self, place: str | None) -> Any:
        return self if place is None else getattr(self, place)

    def __post_init__(self) -> None:
        check_options(self)
        if self.schedule.warmup > self.epochs:
            raise InputError(
                f"warmup is {self.schedule.warmup:g} of {self.epochs} epochs; it must not be more",
                field="warmup",
            )
        if self.optimizer.grad_accum_steps > max(1, self.batch_size // 2):
            raise InputError(
                f"grad_accum_steps is {self.optimizer.grad_accum_steps} for a batch of "
                f"{self.batch_size}; each part requires at least two images",
                field="grad_accum_steps",
            )
        if self.model.freeze > len(self.network.stages):
            raise InputError(
                f"freeze is {self.model.freeze}; {self.network.name} has "
                f"{len(self.network.stages)} stages before its classifier",
                field="freeze",
            )
        self._check_network()

    def _check_network(self) -> None:
        if self.network.options.num_classes is None:
            raise InputError(f"{self.network.name} has no classes; give a network with classes")
        for size in sorted({self.size_in(0), self.size_in(self.epochs), self.preprocess.size}):
            shape = (self.preprocess.channel_count, size, size)
            problem = walk(self.network, shape).problem
            if problem is not None:
                raise InputError(
                    f"{self.network.name} cannot be trained at this size, {size}: {problem}",
                    field="size",
                )
        if self.batch_size < self.smallest_batch:
            raise InputError(
                f"batch_size is {self.batch_size}, and {self.network.name} has batch norms on 1x1 "
                "maps at this size, which require two images; give batch_size=2 or more, a larger "
                "size, or norm='group'",
                field=("batch_size", "size", "norm"),
            )

    @property
    def smallest_batch(self) -> int:
        """The minimum batch size: 2 if a trained batch norm sees 1x1 maps, as one value has no
        variance; else 1."""
        frozen = {stage.name for stage in self.network.stages[: self.model.freeze]}
        for size in {self.size_in(0), self.size_in(self.epochs)}:
            for step in walk(self.network, (self.preprocess.channel_count, size, size)).steps:
                layer, shape = step.layer, step.input
                if not isinstance(layer, Norm) or layer.groups or shape is None:
                    continue
                if shape[1:] == (1, 1) and step.located.stage not in frozen:
                    return 2
        return 1

    @property
    def largest_size(self) -> int:
        """The largest side of the training images."""
        return max(self.size_in(epoch) for epoch in range(self.epochs + 1))

    def size_in(self, epoch: int) -> int:
        """The side of the training images in an epoch counted from 0.

        ``start_size`` until the first share of ``progressive_resizing``, ``train_size`` from the
        second on, linear in between, in steps of the network's stride (libffcv/ffcv-imagenet,
        ``get_resolution``).
        """
        last = self.images.train_size or self.preprocess.size
        if self.images.start_size is None:
            return last
        begin, end = (share * self.epochs for share in self.images.progressive_resizing)
        if epoch <= begin and epoch < end:
            return self.images.start_size
        if epoch >= end:
            return last
        share = (epoch - begin) / (end - begin)
        step = self.network.options.natural_stride
        size = (
            round((self.images.start_size + share * (last - self.images.start_size)) / step) * step
        )
        return max(step, size)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON types, one table per group."""
        return {field.name: _as_json(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Recipe:
        """The inverse of ``to_dict``; also reads earlier versions, without groups.

        Raises ``ValueError`` for anything else.
        """
        document = as_options(document)
        try:
            tables = {
                "network": Network.from_dict(document["network"]),
                "preprocess": Preprocess.from_dict(document["preprocess"]),
                "augment": Augment.from_dict(document["augment"]),
            }
            return cls.of(**{**document, **tables})
        except (KeyError, TypeError) as error:
            raise InputError(f"not a training recipe: {error}") from None

    def to_toml(self) -> str:
        """The recipe as TOML, tables last; ``from_toml`` restores it."""
        return "# A training run of resnetkit; every choice of it.\n" + tomli_w.dumps(
            _given(self.to_dict())
        )

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """The inverse of ``to_toml``. Raises ``ValueError`` for other text."""
        return cls.from_dict(read_toml(text))


#: All options by their names outside the groups: the group, None for the recipe itself, the field
#: and its type.
OPTIONS: dict[str, tuple[str | None, Field[Any], Any]] = {
    name: (place, field, hint)
    for place, group in ((None, Recipe), *GROUPS.items())
    for name, field, hint in described(group)
    if place is not None or field.name not in (*SUBJECT, *GROUPS)
}


def read_toml(text: str) -> dict[str, Any]:
    """The options in a recipe file, all or some. Raises ``ValueError`` if invalid."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"not a training recipe: {error}") from None
    return as_options(document)


def as_options(document: Mapping[str, Any]) -> dict[str, Any]:
    """Fields and options of a document by their names outside the groups, arrays as tuples.

    Raises ``ValueError`` for an unknown name, with the nearest known one.
    """
    found: dict[str, Any] = {}
    for name, value in document.items():
        if name in GROUPS and isinstance(value, Mapping):
            names = {field.name: outside for outside, field, _ in described(GROUPS[name])}
            check_names(value, names, f"a recipe's [{name}]")
            found |= {names[inside]: one for inside, one in value.items()}
        else:
            found[_RENAMED.get(name, name)] = value
    check_names(found, [*SUBJECT, *OPTIONS], "a recipe")
    if isinstance(augment := found.get("augment", {}), Mapping):
        check_names(augment, [field.name for field in fields(Augment)], "a recipe's [augment]")
    return {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}


def check_names(names: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise ``ValueError`` for an unknown name, with the nearest known one."""
    known = list(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
            raise InputError(f"{what} has no field {printable(name[:60])}; {hint}")


def _grouped(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The recipe's own fields, and the options of each group."""
    own: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = {}
    check_names(options, [*SUBJECT, *OPTIONS], "a recipe")
    for name, value in options.items():
        place, field, _ = OPTIONS.get(name, (None, None, None))
        if place is None or field is None:
            own[name] = value
        else:
            groups.setdefault(place, {})[field.name] = value
    return own, groups


def _as_json(value: Any) -> Any:
    if isinstance(value, OptionGroup):
        return {field.name: _as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Network | Preprocess | Augment):
        return value.to_dict()
    return list(value) if isinstance(value, tuple) else value


def _given(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table without None, which TOML lacks."""
    return {
        name: _given(value) if isinstance(value, Mapping) else value
        for name, value in table.items()
        if value is not None
    }

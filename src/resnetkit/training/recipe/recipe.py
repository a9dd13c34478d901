"""A training recipe: every hyperparameter, validated, as TOML."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

import tomli_w

from resnetkit.architecture.layer import Norm
from resnetkit.architecture.network import Network
from resnetkit.architecture.shape_inference import walk
from resnetkit.errors import InputError, is_finite, shown
from resnetkit.preprocess import Preprocess
from resnetkit.training.recipe.augmentation import Augment

OptimizerKind = Literal["sgd", "adamw", "lamb"]
Schedule = Literal["cosine", "step", "linear", "one-cycle"]
LossKind = Literal["cross-entropy", "bce"]
Decayed = Literal["weights", "all"]
ClassWeights = Literal["none", "balanced"]
Precision = Literal["auto", "fp32", "bf16"]

#: Tables of a recipe's file; all else are plain values.
TABLES = ("network", "preprocess", "augment")
#: The batch size that is measured when the recipe is made.
AUTO = "auto"
#: What is no choice of how to train, but what to train on and from.
SUBJECT = ("data", "network", "preprocess", "augment", "start")

_WORDS = {
    "optimizer": OptimizerKind,
    "schedule": Schedule,
    "loss": LossKind,
    "decayed": Decayed,
    "class_weights": ClassWeights,
    "precision": Precision,
}
_WHOLE = {
    "epochs": 1,
    "batch_size": 1,
    "seed": 0,
    "threads": 1,
    "repeats": 1,
    "accumulate": 1,
    "freeze": 0,
    "ema_every": 1,
    "patience": 0,
    "train_size": 1,
    "start_size": 1,
}
_FROM_0_BELOW_1 = (
    *("momentum", "label_smoothing", "validation", "test"),
    *("drop_path", "ema_decay", "beta2", "bce_threshold"),
)
_FROM_0 = ("weight_decay", "warmup", "mixup", "cutmix", "clip")


def _choice(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training run. Each field's metadata says what it is; the flags are made from them.

    ``data`` is what ``open_dataset`` takes; ``start`` names the weights that training starts from,
    None are new ones; ``preprocess`` is that of measuring and of the bundle.

    Raises ``ValueError`` for a value that is not allowed, and where the network cannot take the
    images that ``preprocess`` makes.
    """

    data: str
    network: Network
    preprocess: Preprocess
    augment: Augment
    epochs: int = field(metadata={"help": "default: 20 for digits, 30 for a folder"})
    batch_size: int = field(metadata={"help": "images of a step; default: 64 for digits, else "
                                      "4 to 32; auto: the fastest, measured"})  # fmt: skip
    lr: float = field(metadata={"help": "peak learning rate; default: 0.1 for batches of 64"})
    optimizer: OptimizerKind = _choice("sgd", "default: sgd")
    momentum: float = _choice(0.9, "of sgd; the first beta of adamw and lamb; default: 0.9")
    nesterov: bool = _choice(True, "Nesterov's momentum; default: yes")
    beta2: float = _choice(0.999, "the second beta of adamw and lamb; default: 0.999")
    epsilon: float = _choice(1e-6, "of adamw and lamb; default: 1e-6")
    weight_decay: float = _choice(5e-4, "default: 0.0005")
    decayed: Decayed = _choice(
        "weights", "weights of convolutions and linear layers, or all parameters"
    )
    schedule: Schedule = _choice(
        "cosine", "of the learning rate after the warm-up; one-cycle also rises as a cosine"
    )
    warmup: float = _choice(2.0, "epochs of rising learning rate; default: 2")
    drops: tuple[float, ...] = _choice(
        (), "shares of the epochs after which step divides the rate by 10; e.g. 0.33,0.67"
    )
    loss: LossKind = _choice("cross-entropy", "bce: each class on its own")
    bce_threshold: float = _choice(
        0.0, "bce takes a class with a larger share of a mixed image as fully there; 0: its share"
    )
    label_smoothing: float = _choice(0.1, "default: 0.1")
    class_weights: ClassWeights = _choice("none", "balanced: every class counts the same")
    mixup: float = _choice(0.0, "alpha of mixed images; 0 is none")
    cutmix: float = _choice(0.0, "alpha of images cut into others; 0 is none")
    repeats: int = _choice(1, "copies of an image in a batch, varied each by itself")
    drop_path: float = _choice(0.0, "stochastic depth: how often the last block is skipped")
    sync_norms: bool = _choice(
        False, "norms see the whole batch, not a process's share (under torchrun)"
    )
    ema_decay: float = _choice(0.0, "decay of averaged weights, which are then measured; 0 is none")
    ema_every: int = _choice(1, "steps between two averages")
    clip: float = _choice(0.0, "largest norm of the gradient; 0 is any")
    accumulate: int = _choice(1, "pieces in which a batch is computed, for less memory")
    freeze: int = _choice(0, "parts kept as they are: 1 the stem, 2 also the first stage, ...")
    train_size: int | None = _choice(None, "side of training images; default: --size")
    start_size: int | None = _choice(None, "side of training images in the first epochs")
    ramp: tuple[float, float] = _choice(
        (0.6875, 0.8125), "shares of the epochs between which the side grows"
    )
    test_flip: bool = _choice(False, "measure the mean of an image's and its mirror's logits")
    validation: float = _choice(0.15, "share held back to choose the best epoch, or none, which "
                                      "keeps the last one; default: 0.15")  # fmt: skip
    test: float = _choice(0.15, "share held back to measure, or none; default: 0.15")
    patience: int = _choice(0, "epochs without a best one after which the run ends; 0: never")
    seed: int = _choice(0, "default: 0")
    device: str = _choice("cpu", "cpu, cuda, ...; default: cuda where there is one")
    threads: int | None = _choice(None, "processor threads of torch")
    precision: Precision = _choice(
        "auto", "of convolutions and products; auto: bf16 where its steps are faster here; "
        "default: auto"
    )  # fmt: skip
    compile: bool = _choice(False, "compile the network's steps, which takes a C++ compiler")
    start: str | None = None

    def __post_init__(self) -> None:
        self._check_words_and_numbers()
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise InputError(f"lr is {self.lr:g}; it takes a number above 0", field="lr")
        if not self.epsilon > 0:
            raise InputError(
                f"epsilon is {self.epsilon:g}; it takes a number above 0", field="epsilon"
            )
        if self.warmup > self.epochs:
            raise InputError(
                f"warmup is {self.warmup:g} epochs of {self.epochs}; it takes at most all of them",
                field="warmup",
            )
        if self.validation + self.test >= 1:
            raise InputError(
                f"validation={self.validation:g} and test={self.test:g} leave no images to "
                "train on; give numbers like 0.15",
                field=("validation", "test"),
            )
        self._check_together()
        self._check_network()

    def _check_words_and_numbers(self) -> None:
        for name, kind in _WORDS.items():
            value = getattr(self, name)
            if value not in get_args(kind):
                raise InputError(
                    f"{name} is {value}; it may be {', '.join(get_args(kind))}", field=name
                )
        for name, least in _WHOLE.items():
            value = getattr(self, name)
            if value is None and name in ("threads", "train_size", "start_size"):
                continue
            if type(value) is not int or value < least:
                raise InputError(
                    f"{name} is {value!r}; it takes a whole number from {least}", field=name
                )
        for name in [f.name for f in fields(self) if type(f.default) is bool]:
            if type(value := getattr(self, name)) is not bool:
                raise InputError(f"{name} is {value!r}; it takes true or false", field=name)
        for name in (*_FROM_0_BELOW_1, *_FROM_0, "lr", "epsilon"):
            if not is_finite(value := getattr(self, name)):
                raise InputError(f"{name} is {shown(value)}; it takes a number", field=name)
        for name in _FROM_0_BELOW_1:
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise InputError(
                    f"{name} is {value:g}; it takes a number from 0, below 1", field=name
                )
        for name in _FROM_0:
            value = getattr(self, name)
            if value < 0:
                raise InputError(f"{name} is {value:g}; it takes a number from 0", field=name)

    def _check_together(self) -> None:
        if list(self.drops) != sorted(self.drops) or not all(0 < d < 1 for d in self.drops):
            raise InputError(
                f"drops is {self.drops}; it takes rising shares between 0 and 1", field="drops"
            )
        if bool(self.drops) != (self.schedule == "step"):
            raise InputError(
                f"schedule is {self.schedule} and drops are {self.drops}; those go with step, "
                "and step takes some, e.g. 0.33,0.67",
                field=("schedule", "drops"),
            )
        if not (len(self.ramp) == 2 and 0 <= self.ramp[0] <= self.ramp[1] <= 1):
            raise InputError(
                f"ramp is {self.ramp}; it takes two rising shares from 0 to 1", field="ramp"
            )
        if self.accumulate > max(1, self.batch_size // 2):
            raise InputError(
                f"accumulate is {self.accumulate} pieces of a batch of {self.batch_size}; each "
                "takes two images at least",
                field="accumulate",
            )
        if self.freeze > len(self.network.stages):
            raise InputError(
                f"freeze is {self.freeze}; {self.network.name} has {len(self.network.stages)} "
                "parts before its classifier",
                field="freeze",
            )

    def _check_network(self) -> None:
        if self.network.options.num_classes is None:
            raise InputError(f"{self.network.name} has no classes; give a network that has")
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
                f"batch_size is {self.batch_size}, and {self.network.name} has batch norms that "
                "see 1x1 maps at this size: one image is no statistic; give 2 or more images, a "
                "larger size, or norm='group'",
                field=("batch_size", "size", "norm"),
            )

    @property
    def smallest_batch(self) -> int:
        """The fewest images that a step takes: 2 where the mean of a batch norm that is trained
        would be of one number, for it sees maps of 1x1, else 1."""
        frozen = {stage.name for stage in self.network.stages[: self.freeze]}
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

        ``start_size`` until the first share of ``ramp``, ``train_size`` from the second on, linear
        between, in steps of the network's stride (libffcv/ffcv-imagenet, ``get_resolution``).
        """
        last = self.train_size or self.preprocess.size
        if self.start_size is None:
            return last
        begin, end = (share * self.epochs for share in self.ramp)
        if epoch <= begin and epoch < end:
            return self.start_size
        if epoch >= end:
            return last
        share = (epoch - begin) / (end - begin)
        step = self.network.options.natural_stride
        size = round((self.start_size + share * (last - self.start_size)) / step) * step
        return max(step, size)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON types."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in TABLES:
            values[name] = values[name].to_dict()
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Recipe:
        """The recipe of ``to_dict``. Raises ``ValueError`` for what is none."""
        check_names(document)
        try:
            return cls(
                **{
                    **as_fields(document),
                    "network": Network.from_dict(document["network"]),
                    "preprocess": Preprocess.from_dict(document["preprocess"]),
                    "augment": Augment.from_dict(document["augment"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"this is no recipe of a training run: {error}") from None

    def to_toml(self) -> str:
        """The recipe as TOML, tables last; ``from_toml`` gives an equal one back."""
        return "# A training run of resnetkit; every choice of it.\n" + tomli_w.dumps(
            _given(self.to_dict())
        )

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """The recipe of ``to_toml``. Raises ``ValueError`` for what is none."""
        return cls.from_dict(read_toml(text))


def read_toml(text: str) -> dict[str, Any]:
    """A recipe's file, which may have some of the fields only. Raises ``ValueError``."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"this is no recipe of a training run: {error}") from None
    check_names(document)
    return document


def as_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    """Values as the fields take them: arrays become tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in document.items()}


def check_names(document: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for a field that no recipe has, with the nearest that it has."""
    _check(document, [field.name for field in fields(Recipe)], "a recipe")
    augment = document.get("augment", {})
    if isinstance(augment, Mapping):
        _check(augment, [field.name for field in fields(Augment)], "a recipe's [augment]")


def _check(names: Collection[str], known: list[str], what: str) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
            raise InputError(f"{what} has no field {name}; {hint}")


def _given(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table without what is None, which TOML has not."""
    return {
        name: _given(value) if isinstance(value, Mapping) else value
        for name, value in table.items()
        if value is not None
    }

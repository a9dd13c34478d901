"""The options of a recipe in groups, each validated from the metadata of its fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from typing import Any, Literal, get_args, get_type_hints

from resnetkit.errors import InputError, is_finite, shown

OptimizerName = Literal["sgd", "adamw", "lamb"]
ScheduleName = Literal["cosine", "step", "linear", "one-cycle"]
LossName = Literal["cross-entropy", "bce"]
WeightDecayScope = Literal["weights", "all"]
ClassWeights = Literal["none", "balanced"]
Precision = Literal["auto", "fp32", "bf16"]


def option(
    text: str,
    default: Any = MISSING,
    *,
    name: str | None = None,
    least: float | None = None,
    below: float = float("inf"),
) -> Any:
    """A dataclass field with its help text and limits: ``least <= value < below``.

    ``name`` is the option's name outside its group, by default the field's.
    """
    return field(
        default=default, metadata={"help": text, "name": name, "least": least, "below": below}
    )


def positive(text: str, default: Any = MISSING) -> Any:
    """A field that allows numbers above 0."""
    return field(default=default, metadata={"help": text, "above": 0})


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionGroup:
    """Base of all groups. Raises ``ValueError`` for invalid values."""

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerOptions(OptionGroup):
    """Optimizer."""

    lr: float = positive("peak learning rate; default: 0.1 for batches of 64")
    name: OptimizerName = option("default: sgd", "sgd", name="optimizer")
    momentum: float = option(
        "of sgd; the first beta of adamw and lamb; default: 0.9", 0.9, least=0, below=1
    )
    nesterov: bool = option("Nesterov momentum; default: yes", True)
    beta2: float = option("second beta of adamw and lamb; default: 0.999", 0.999, least=0, below=1)
    eps: float = positive("of adamw and lamb; default: 1e-6", 1e-6)
    weight_decay: float = option("default: 0.0005", 5e-4, least=0)
    weight_decay_scope: WeightDecayScope = option(
        "weights of convolutions and linear layers, or all parameters", "weights"
    )
    clip_grad: float = option("maximum norm of the gradient; 0: no clipping", 0.0, least=0)
    grad_accum_steps: int = option("parts of a batch computed in turn, to save memory", 1, least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOptions(OptionGroup):
    """Learning rate schedule."""

    name: ScheduleName = option(
        "after the warm-up; one-cycle also rises as a cosine", "cosine", name="schedule"
    )
    warmup: float = option("epochs of rising learning rate; default: 2", 2.0, least=0)
    milestones: tuple[float, ...] = option(
        "shares of the epochs after which step divides the rate by 10; e.g. 0.33,0.67", ()
    )
    patience: int = option("stop after this many epochs without a new best; 0: never", 0, least=0)

    def __post_init__(self) -> None:
        check_options(self)
        stones = self.milestones
        if list(stones) != sorted(stones) or not all(0 < stone < 1 for stone in stones):
            raise InputError(
                f"milestones is {stones}; give rising shares between 0 and 1", field="milestones"
            )
        if bool(stones) != (self.name == "step"):
            raise InputError(
                f"schedule is {self.name} and milestones is {stones}; step requires milestones, "
                "e.g. 0.33,0.67, and other schedules have none",
                field=("schedule", "milestones"),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOptions(OptionGroup):
    """Loss and mixed images."""

    name: LossName = option("bce: each class independently", "cross-entropy", name="loss")
    bce_threshold: float = option(
        "with bce, larger shares of a class in a mixed image count as 1; 0: off",
        0.0, least=0, below=1,
    )  # fmt: skip
    label_smoothing: float = option("default: 0.1", 0.1, least=0, below=1)
    class_weights: ClassWeights = option("balanced: equal weight for every class", "none")
    mixup: float = option("alpha of Mixup; 0: off", 0.0, least=0)
    cutmix: float = option("alpha of CutMix; 0: off", 0.0, least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions(OptionGroup):
    """Regularization, averaged and frozen weights."""

    drop_path: float = option(
        "stochastic depth: probability of skipping the last block", 0.0, least=0, below=1
    )
    sync_bn: bool = option("synchronize batch norms over all processes (torchrun)", False)
    ema_decay: float = option(
        "decay of averaged weights, which are then evaluated; 0: off", 0.0, least=0, below=1
    )
    ema_every: int = option("steps between updates of the average", 1, least=1)
    freeze: int = option("frozen stages: 1 the stem, 2 also the first stage, ...", 0, least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions(OptionGroup):
    """Splits and sizes of the images."""

    validation: float = option("share held out to choose the best epoch; 0: keep the "
                               "last one; default: 0.15", 0.15, least=0, below=1)  # fmt: skip
    test: float = option(
        "share held out for the test; 0: none; default: 0.15", 0.15, least=0, below=1
    )
    aug_repeats: int = option("augmented copies of an image in a batch", 1, least=1)
    train_size: int | None = option("side of training images; default: --size", None, least=1)
    start_size: int | None = option("side of training images in the first epochs", None, least=1)
    progressive_resizing: tuple[float, float] = option(
        "shares of the epochs between which the side grows from start size to train size",
        (0.6875, 0.8125),
    )
    flip_tta: bool = option("evaluate with the mean logits of an image and its mirror image", False)

    def __post_init__(self) -> None:
        check_options(self)
        if self.validation + self.test >= 1:
            raise InputError(
                f"validation={self.validation:g} and test={self.test:g} leave no images to "
                "train on; give e.g. 0.15",
                field=("validation", "test"),
            )
        grows = self.progressive_resizing
        if not (len(grows) == 2 and 0 <= grows[0] <= grows[1] <= 1):
            raise InputError(
                f"progressive_resizing is {grows}; give two rising shares from 0 to 1",
                field="progressive_resizing",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOptions(OptionGroup):
    """Seed, device and precision."""

    seed: int = option("default: 0", 0, least=0)
    device: str = option("cpu, cuda, ...; default: cuda if available", "cpu")
    threads: int | None = option("CPU threads of torch", None, least=1)
    precision: Precision = option(
        "auto: bf16 if its steps are faster on this machine; default: auto", "auto"
    )
    compile: bool = option("compile the steps with torch.compile, requires a C++ compiler", False)
    deterministic: bool = option(
        "on a GPU, use only algorithms that give the same bits in every run; default: yes", True
    )


@cache
def described(group: Any) -> tuple[tuple[str, Field[Any], Any], ...]:
    """The options of a group: name, field and type."""
    hints = get_type_hints(group)
    return tuple((f.metadata.get("name") or f.name, f, hints[f.name]) for f in fields(group))


def check_options(group: Any) -> None:
    """Raise ``InputError`` for the first value that its field does not allow."""
    kind: Any = type(group)
    for name, one, hint in described(kind):
        wanted = _wanted(getattr(group, one.name), hint, one.metadata)
        if wanted is not None:
            value = getattr(group, one.name)
            text = value if wanted.startswith("one of") else shown(value)
            raise InputError(f"{name} is {text}; it must be {wanted}", field=name)


def _wanted(value: Any, hint: Any, limits: Mapping[str, Any]) -> str | None:
    """What the option must be; None if ``value`` is valid."""
    words = get_args(hint)
    if hint is bool:
        return None if type(value) is bool else "true or false"
    if words and isinstance(words[0], str):
        return None if value in words else f"one of {', '.join(words)}"
    least, above = limits.get("least"), limits.get("above")
    if least is None and above is None:
        return None
    if least is not None and hint is not float:
        if (value is None and type(None) in words) or (type(value) is int and value >= least):
            return None
        return f"an integer from {least:g}"
    if not is_finite(value):
        return "a number"
    if least is None:
        return None if value > above else f"a number above {above:g}"
    if least <= value < limits["below"]:
        return None
    upto = f", below {limits['below']:g}" if is_finite(limits["below"]) else ""
    return f"a number from {least:g}{upto}"

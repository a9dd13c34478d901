"""A parsed checkpoint: dialect, network, and the map between tensor names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from resnetkit.architecture.layer import Shape, shape_text
from resnetkit.architecture.network import Network
from resnetkit.architecture.parameters import named, tensors
from resnetkit.checkpoints.dialect import Dialect, DialectPreprocess, fitting
from resnetkit.errors import InputError

if TYPE_CHECKING:
    from resnetkit.checkpoints.dialect import Array

Head = Literal["classifier", "none", "other"]

#: Known wrappers of networks. Others are stripped as well, and reported without a meaning.
WRAPPERS: Mapping[str, str] = MappingProxyType(
    {
        "state_dict": "the weights beside the training state",
        "model": "the network inside another module, or beside the training state",
        "net": "the network inside another module",
        "network": "the network inside another module",
        "state_dict_ema": "an average of the weights over training",
        "model_ema": "an average of the weights over training",
        "ema": "an average of the weights over training",
        "module": "torch's DataParallel, or an average of weights (timm's ModelEma)",
        "_orig_mod": "torch.compile",
        "backbone": "the backbone of a larger network",
        "bottom_up": "the backbone below a feature pyramid (detectron2)",
        "body": "the backbone below a feature pyramid (torchvision)",
        "encoder": "the encoder of a larger network",
        "encoder_q": "MoCo's query encoder; its fc is a projection, not a classifier",
        "encoder_k": "MoCo's key encoder, a moving average of the query encoder",
        "momentum_encoder": "a moving average of the encoder",
        "blobs": "Caffe2's tensors",
        "model_weights": "Keras' weights of a whole model",
    }
)
#: Keys of training state beside the weights.
TRAINING = frozenset(
    "optimizer optimizers optimizer_states optim scheduler lr_scheduler lr_schedulers scaler "
    "amp_scaler grad_scaler amp loss_scaler callbacks loops criterion rng_state".split()
)
#: Networks whose fc is not a classifier.
PROJECTS = {"encoder_q", "encoder_k", "momentum_encoder"}
#: Maximum number of leftover prefixes in a message.
MOST_STARTS = 6
_DIGITS = "0123456789"
COUNTER, _MEAN, _VARIANCE = "num_batches_tracked", "running_mean", "running_var"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambiguity:
    """An attribute that tensors do not show: candidates, their meaning, and the default.

    ``means`` describes each candidate; ``doubtful`` means that the framework has several of them,
    or that the default is undocumented, and that the outputs depend on it.
    """

    fact: str
    candidates: tuple[Any, ...]
    default: Any
    meaning: str
    means: tuple[str, ...]
    source: str
    doubtful: bool = False


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A parsed checkpoint. All names are full names as in the file.

    ``prefix`` was stripped, segment by segment in ``wrappers``. ``names`` maps our tensors to
    theirs; ``created`` are ours that the file may lack; ``missing`` maps ours to the expected
    names, ``misshapen`` theirs to (shape, expected shape). ``leftover`` are their tensors that the
    network does not use; ``ignored`` those that belong to no network or to a further copy of this
    one, with the reason; ``copies`` are the prefixes of those copies. ``known`` is the source of
    each option, ``ambiguous`` the open facts. ``also`` are dialects that read the same names
    equally well. ``classifier`` is the detected classifier layer if it does not have the dialect's
    name. ``choices`` are the preprocessings of a configuration, instead of the dialect's.
    """

    dialect: Dialect
    prefix: str
    rooted: bool
    network: Network
    shapes: Mapping[str, Shape]
    names: Mapping[str, str]
    created: tuple[str, ...]
    missing: Mapping[str, str]
    misshapen: Mapping[str, tuple[Shape, Shape]]
    leftover: tuple[str, ...]
    ignored: Mapping[str, str]
    known: Mapping[str, str]
    ambiguous: tuple[Ambiguity, ...]
    also: tuple[str, ...] = ()
    choices: tuple[DialectPreprocess, ...] = ()
    copies: tuple[str, ...] = ()
    classifier: str = ""

    @property
    def wrappers(self) -> tuple[str, ...]:
        """The segments of ``prefix``; ``WRAPPERS`` describes the usual ones."""
        return segments(self.prefix)

    @property
    def head(self) -> Head:
        """``classifier``, ``none``, or ``other``: a projection, a decoder, something else."""
        if self.network.options.num_classes is None:
            return "other" if self.leftover else "none"
        return "other" if PROJECTS & set(self.wrappers) else "classifier"

    @property
    def preprocess(self) -> tuple[DialectPreprocess, ...]:
        """The framework's preprocessings for this number of channels, its default first."""
        offered = self.choices or self.dialect.preprocess
        return fitting(offered, self.network)

    def settle(self, **facts: Any) -> Reading:
        """Return this reading with given facts, e.g. ``stride_on="1x1"``.

        Any option may be given, ``classes=None`` to omit the head. Raises ``InputError`` for an
        unknown option and for a contradictory value.
        """
        network = named(self.network.override(**self._entry(facts), **facts).options)
        kept = {name: shape for name, shape in self.shapes.items() if name not in self.ignored}
        return replace(
            compare(self.dialect, kept, self.prefix, self.rooted, network, self.classifier),
            shapes=self.shapes,
            ignored=self.ignored,
            known={**self.known, **dict.fromkeys(facts, "given")},
            ambiguous=tuple(fact for fact in self.ambiguous if fact.fact not in facts),
            also=self.also,
            choices=self.choices,
            copies=self.copies,
        )

    def _entry(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The framework's dilation of a stage's first block, if stages are dilated now."""
        dilated = self.network.options.output_stride != self.network.options.natural_stride
        if "output_stride" not in facts or "dilation_entry" in facts or dilated:
            return {}
        ways = [fact for fact in self.dialect.facts if fact.option == "dilation_entry"]
        return {way.option: way.values[0] for way in ways}

    def problems(self, drop: Collection[str] = ()) -> tuple[str, ...]:
        """The errors of the key map, one line each, without leftovers outside the network.

        ``drop`` are prefixes of names to ignore.
        """
        return (
            *(f"{theirs} is missing (our {ours})" for ours, theirs in self.missing.items()),
            *(
                f"{name} is {_shape_text(given)}, expected {_shape_text(wanted)}"
                for name, (given, wanted) in self.misshapen.items()
            ),
            *(
                f"{name} is inside the network, but {self.network.name} has no such tensor"
                for name in self.inside
                if not any(begins(name, start) for start in drop)
            ),
        )

    @property
    def body(self) -> str:
        """The prefix of the body's tensors."""
        return self.prefix + (self.dialect.root if self.rooted else "")

    @cached_property
    def inside(self) -> tuple[str, ...]:
        """Leftovers inside the network: below a name that it uses, or with a further number.

        For ``layer3.0.conv1`` these are ``layer3.0.conv9``, ``layer5`` and ``conv2``. The file's
        network uses them, so without them it would be a different one.
        """
        used = (*self.names.values(), *self.missing.values())
        words = {_word(name, self.body) for name in used if name.startswith(self.body)}
        counted = {word.rstrip(_DIGITS) for word in words if not word.isdigit()}
        return tuple(
            name
            for name in self.leftover
            if name.startswith(self.body)
            and (
                (word := _word(name, self.body)) in words
                or (word[-1:].isdigit() and word.rstrip(_DIGITS) in counted - {""})
            )
        )

    @property
    def outside(self) -> tuple[str, ...]:
        """Leftovers outside the network: another head, metrics, the weights of a loss."""
        inside = set(self.inside)
        return tuple(name for name in self.leftover if name not in inside)

    def part(self, name: str) -> tuple[str, str]:
        """The common prefix of a leftover with the network's own tensors, and its next part."""
        body = re.split(r"(?<=[./])", self.body)
        words = re.split(r"(?<=[./])", name)
        at = 0
        while at < len(words) - 1 and at < len(body) and words[at] == body[at]:
            at += 1
        return "".join(words[:at]), words[at].rstrip("./")

    def without_classifier(self, drop: Collection[str]) -> Reading:
        """This reading without its classifier, if all its tensors are dropped."""
        head = [self.names[name] for name in ("fc.weight", "fc.bias") if name in self.names]
        if not head or not all(any(begins(name, start) for start in drop) for name in head):
            return self
        return self.settle(num_classes=None)

    def check(self, drop: Iterable[str] = (), *, strict: bool = False) -> None:
        """Raise ``InputError`` unless every tensor of the network is used once, with its exact
        shape.

        Inside the network nothing may be left over; leftovers outside are only errors if
        ``strict``. ``drop`` are prefixes of names to ignore, where ``*`` matches any text; each
        must match a leftover or ignored tensor.
        """
        drop = list(drop)
        for start in drop:
            if not any(begins(name, start) for name in (*self.leftover, *self.ignored)):
                raise InputError(f"no leftover tensor begins with {start!r}; leave it out")
        problems = self.problems(drop)
        if problems:
            more = f"; {len(problems) - 3} more" if len(problems) > 3 else ""
            raise InputError(
                f"the checkpoint is not a complete {self.network.name} of {self.dialect.name}: "
                f"{'; '.join(problems[:3])}{more}"
            )
        left = [n for n in self.outside if not any(begins(n, start) for start in drop)]
        if left and strict:
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            starts = list(dict.fromkeys("".join(self.part(name)) for name in left))[:MOST_STARTS]
            text = (
                f"{len(left)} tensors are not part of {self.network.name}: "
                f"{', '.join(left[:3])}{more}; leave strict out, or name them, e.g. "
            )
            raise InputError(f"{text}drop={starts!r}", field=("drop", "strict"))

    def to_ours(self, arrays: Mapping[str, Array], drop: Iterable[str] = ()) -> dict[str, Array]:
        """Convert their tensors to ours, each used exactly once with its exact shape.

        Missing counters are 0; norms folded into scale and bias get mean 0 and variance ``1 -
        epsilon``, so that nothing is divided. Raises as ``check`` does.
        """
        self.check(drop)
        return {name: self.ours(name, arrays) for name in tensors(self.network)}

    def ours(self, name: str, arrays: Mapping[str, Array]) -> Array:
        """Our tensor of that name; reads only its sources, unchecked."""
        if name in self.names:
            found = self.dialect.to_ours(arrays[self.names[name]])
            return found.reshape(()) if name.endswith(COUNTER) else found
        import numpy as np

        layer, _, part = name.rpartition(".")
        if part == COUNTER:
            return np.zeros((), dtype=np.int64)
        if part == "bias":  # for a classifier without a bias
            weight = self.dialect.to_ours(arrays[self.names[f"{layer}.weight"]])
            return np.zeros(weight.shape[:1], dtype=weight.dtype)
        weight = arrays[self.names[f"{layer}.weight"]]
        value = 0.0 if part == _MEAN else 1 - self.network.options.norm_epsilon
        return np.full_like(weight, value)

    def to_theirs(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The file's tensors from ours, by their names; the inverse of ``to_ours``."""
        return {theirs: self.dialect.to_theirs(arrays[ours]) for ours, theirs in self.names.items()}


def _word(name: str, body: str) -> str:
    """The first part of a name below the body's prefix."""
    return re.split(r"[./]", name[len(body) :], maxsplit=1)[0]


def _shape_text(shape: Shape) -> str:
    return shape_text(shape) or "one number"


def begins(name: str, start: str) -> bool:
    """Whether a name has that prefix; ``*`` matches any text."""
    return fnmatchcase(name, f"{start}*")


def segments(prefix: str) -> tuple[str, ...]:
    """The wrappers in a prefix, each ending with a dot or a slash."""
    return tuple(segment for segment in re.split(r"[./]", prefix) if segment)


def compare(
    dialect: Dialect,
    shapes: Mapping[str, Shape],
    prefix: str,
    rooted: bool,
    network: Network,
    classifier: str = "",
) -> Reading:
    """Match the tensors of ``network`` with the file's, before any facts are known."""
    places_of_heads = range(len(dialect.heads))
    maps = [dialect.map(network, rooted=rooted, head=n, prefix=prefix) for n in places_of_heads]
    expected = max(maps, key=lambda names: sum(theirs in shapes for theirs in names.values()))
    if classifier:
        suffixes = dialect.suffixes["linear"].items()
        expected |= {f"fc.{ours}": classifier + theirs for ours, theirs in suffixes}
    names: dict[str, str] = {}
    missing: dict[str, str] = {}
    misshapen: dict[str, tuple[Shape, Shape]] = {}
    created: list[str] = []
    absent = _absent(dialect, expected, shapes)
    for ours, wanted in tensors(network).items():
        theirs = expected.get(ours)
        if ours.rpartition(".")[2] in absent or theirs is None:
            created.append(ours)
        elif ours == "fc.bias" and theirs not in shapes and expected["fc.weight"] in shapes:
            created.append(ours)  # a missing bias of the classifier is 0
        elif theirs not in shapes:
            missing[ours] = theirs
        elif wanted == () and shapes[theirs] == (1,):
            names[ours] = theirs  # scalars are often stored so
        elif dialect.our_shape(shapes[theirs]) != wanted:
            misshapen[theirs] = shapes[theirs], dialect.shape(wanted)
        else:
            names[ours] = theirs
    used = {*names.values(), *misshapen}
    return Reading(
        dialect=dialect,
        prefix=prefix,
        rooted=rooted,
        network=network,
        shapes=shapes,
        classifier=classifier,
        names=names,
        created=tuple(created),
        missing=missing,
        misshapen=misshapen,
        leftover=tuple(name for name in shapes if name not in used),
        ignored={},
        known={},
        ambiguous=(),
    )


def _absent(
    dialect: Dialect, expected: Mapping[str, str], shapes: Mapping[str, Shape]
) -> frozenset[str]:
    """The optional kinds of tensors of which a file has none."""
    there = {ours.rpartition(".")[2] for ours, theirs in expected.items() if theirs in shapes}
    # torch before 0.4.1 had no batch counters.
    absent = {COUNTER} - there
    if dialect.unfolds and not {_MEAN, _VARIANCE} & there:
        absent |= {_MEAN, _VARIANCE}
    return frozenset(absent)

"""A report on a network's weights: what was never trained, lost, dead or out of range."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from resnetkit import source
from resnetkit.architecture.block import Located
from resnetkit.architecture.layer import Conv, Linear, Norm, shape_text
from resnetkit.architecture.network import Network
from resnetkit.architecture.parameters import tensors
from resnetkit.architecture.rare_layer import ChannelConv
from resnetkit.architecture.text import aligned
from resnetkit.bundle.bundle import Bundle
from resnetkit.display import Displayed
from resnetkit.errors import InputError, is_finite
from resnetkit.inspect.models import Model, as_bundle

Array = npt.NDArray[np.float32]
#: How bad a finding is: the network cannot work, something is likely wrong, or good to know.
Severity = Literal["error", "warning", "note"]
#: Outliers are this many standard deviations from the mean of their tensor.
SIGMA = 10.0
#: Paths named in a finding.
_NAMED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A plain sentence, how bad it is, and the paths of the layers or tensors that it is about."""

    severity: Severity
    text: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NormRow:
    """One norm: the lowest and highest values of its tensors.

    Group norms have no ``running_mean`` and ``running_var``. ``state`` is ``fresh`` (as
    initialised), ``reset`` (trained, with the statistics of an initialisation), ``lost`` (no
    variance, or values that are not finite) or ``trained``. ``zero`` says that all scales are 0,
    ``constant`` is the number of channels of variance 0.
    """

    path: str
    channels: int
    weight: tuple[float, float]
    bias: tuple[float, float]
    running_mean: tuple[float, float] | None
    running_var: tuple[float, float] | None
    state: Literal["fresh", "reset", "lost", "trained"]
    zero: bool
    constant: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightRow:
    """One convolution's or linear layer's weight: ``std`` is its standard deviation, ``largest``
    the largest distance to the mean in these, ``outliers`` how many values are beyond the limit,
    ``dead`` how many of the ``filters`` are all zero."""

    path: str
    shape: tuple[int, ...]
    mean: float
    std: float
    largest: float
    outliers: int
    filters: int
    dead: int


NORM_HEADS = ("norm", "channels", "state", "weight", "bias", "running mean", "running var")
WEIGHT_HEADS = ("layer", "weight", "mean", "std", "largest", "outliers", "dead filters")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsReport(Displayed):
    """``findings`` about the weights of ``network``, the worst first, and a row for each norm and
    each weight. ``largest`` of a row is in standard deviations; outliers are beyond ``sigma``."""

    network: Network
    sigma: float
    findings: tuple[Finding, ...]
    norms: tuple[NormRow, ...]
    weights: tuple[WeightRow, ...]

    @property
    def heading(self) -> str:
        """The line above the tables."""
        count = len(self.findings)
        found = "no findings" if not count else f"{count} finding{'s' if count > 1 else ''}"
        return f"{self.network.name}: {found} in {self.network.parameters:,} parameters"

    def lines(self) -> list[str]:
        """The findings, one a line."""
        return [f"{one.severity}: {one.text}" for one in self.findings]

    def norm_cells(self) -> list[tuple[str, ...]]:
        """The texts of each norm, in the order of ``NORM_HEADS``."""
        return [
            (
                row.path,
                str(row.channels),
                row.state,
                *map(_span, (row.weight, row.bias, row.running_mean, row.running_var)),
            )
            for row in self.norms
        ]

    def weight_cells(self) -> list[tuple[str, ...]]:
        """The texts of each weight, in the order of ``WEIGHT_HEADS``."""
        return [
            (
                row.path,
                shape_text(row.shape),
                f"{row.mean:.3g}",
                f"{row.std:.3g}",
                f"{row.largest:.1f}",
                str(row.outliers),
                f"{row.dead}/{row.filters}",
            )
            for row in self.weights
        ]

    def __str__(self) -> str:
        parts = [self.heading, *self.lines()]
        for heads, cells in (
            (NORM_HEADS, self.norm_cells()),
            (WEIGHT_HEADS, self.weight_cells()),
        ):
            if cells:
                head, *lines = aligned([heads, *cells], {0, 1, 2})
                parts += ["", head, "-" * max(map(len, (head, *lines))), *lines]
        return "\n".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; a number that is not finite is None."""
        return {
            "network": self.network.name,
            "sigma": self.sigma,
            "findings": [
                {"severity": one.severity, "text": one.text, "paths": list(one.paths)}
                for one in self.findings
            ],
            "norms": [_plain(row) for row in self.norms],
            "weights": [_plain(row) for row in self.weights],
        }


def weights_report(model: Model, *, sigma: float = SIGMA) -> WeightsReport:
    """Statistics of a network's weights, and findings in plain sentences, the worst first.

    ``model`` is a bundle, a module of ``resnetkit.build``, or any file or source that
    ``resnetkit.load`` takes, also of other frameworks; facts that such a file leaves open do not
    matter here. Weights beyond ``sigma`` standard deviations from their tensor's mean are outliers.

    Found are values that are not finite, norms that were never trained, norms whose statistics were
    lost or reset, filters that are all zero, outliers, constant channels, and blocks that are their
    shortcuts, as their last norm is zero. Needs no torch, except for a module.

    Raises ``ValueError`` as ``resnetkit.load`` does, and for a ``sigma`` that is not above 0.

    >>> weights_report(resnetkit.build("resnet18")).findings[0].text
    'all 20 norms are as initialised, so the network was not trained: ...'
    """
    if not is_finite(sigma) or sigma <= 0:
        raise InputError(f"sigma is {sigma!r}; it must be a number above 0", field="sigma")
    bundle: Bundle
    if isinstance(model, str | Path):
        bundle = source.function("load")(model)
    else:
        bundle = as_bundle(model, pictures=False)
    network, arrays = bundle.network, bundle.numbers
    layers = list(network.layers())
    norms = tuple(_norm(one, arrays) for one in layers if isinstance(one.layer, Norm))
    weights = tuple(
        _weight(one.path, arrays, sigma)
        for one in layers
        if isinstance(one.layer, Conv | Linear | ChannelConv)
    )
    findings = [
        *_not_finite(network, arrays),
        *_of_norms(norms),
        *_of_weights(weights, sigma),
        *_of_blocks(layers, norms),
    ]
    order: Sequence[Severity] = ("error", "warning", "note")
    findings.sort(key=lambda one: order.index(one.severity))
    return WeightsReport(
        network=network, sigma=float(sigma), findings=tuple(findings), norms=norms, weights=weights
    )


def _numbers(arrays: Mapping[str, Any], name: str) -> Array:
    return np.asarray(arrays[name]).astype(np.float32, copy=False)


def _norm(located: Located, arrays: Mapping[str, Any]) -> NormRow:
    path, layer = located.path, located.layer
    assert isinstance(layer, Norm)
    weight, bias = (_numbers(arrays, f"{path}.{name}") for name in ("weight", "bias"))
    mean = var = None
    if layer.groups is None:
        mean, var = (_numbers(arrays, f"{path}.running_{name}") for name in ("mean", "var"))
    return NormRow(
        path=path,
        channels=layer.channels,
        weight=_limits(weight),
        bias=_limits(bias),
        running_mean=None if mean is None else _limits(mean),
        running_var=None if var is None else _limits(var),
        state=_state(weight, bias, mean, var),
        zero=not weight.any(),
        constant=0 if var is None else int((var == 0).sum()),
    )


def _state(
    weight: Array, bias: Array, mean: Array | None, var: Array | None
) -> Literal["fresh", "reset", "lost", "trained"]:
    scale_fresh = bool(((weight == 1).all() or not weight.any()) and not bias.any())
    if mean is None or var is None:
        lost = not all(np.isfinite(one).all() for one in (weight, bias))
        return "lost" if lost else "fresh" if scale_fresh else "trained"
    if not all(np.isfinite(one).all() for one in (weight, bias, mean, var)):
        return "lost"
    if (var < 0).any() or not var.any():
        return "lost"
    if not mean.any() and (var == 1).all():
        return "fresh" if scale_fresh else "reset"
    return "trained"


def _weight(path: str, arrays: Mapping[str, Any], sigma: float) -> WeightRow:
    values = _numbers(arrays, f"{path}.weight")
    good = values[np.isfinite(values)].astype(np.float64)
    mean, std = (float(good.mean()), float(good.std())) if good.size else (0.0, 0.0)
    away = np.abs(good - mean) / std if std > 0 else np.zeros(1)
    return WeightRow(
        path=path,
        shape=values.shape,
        mean=mean,
        std=std,
        largest=float(away.max()),
        outliers=int((away > sigma).sum()),
        filters=len(values),
        dead=int((~values.reshape(len(values), -1).any(axis=1)).sum()),
    )


def _not_finite(network: Network, arrays: Mapping[str, Any]) -> Iterator[Finding]:
    counts = {
        name: int((~np.isfinite(_numbers(arrays, name))).sum())
        for name in tensors(network)
        if not name.endswith(".num_batches_tracked")
    }
    bad = tuple(name for name, count in counts.items() if count)
    if bad:
        yield Finding(
            severity="error",
            text=f"{sum(counts.values()):,} values in {_count(bad, 'tensor')} are NaN or infinite: "
            f"{_some(bad)}",
            paths=bad,
        )


def _of_norms(norms: Sequence[NormRow]) -> Iterator[Finding]:
    def named(fits: Callable[[NormRow], bool]) -> tuple[str, ...]:
        return tuple(row.path for row in norms if fits(row))

    if lost := named(lambda row: row.state == "lost"):
        yield Finding(
            severity="error",
            text=f"{_count(lost, 'norm')} lost statistics, of variance 0 or below in all channels, "
            f"or not finite: {_some(lost)}",
            paths=lost,
        )
    if reset := named(lambda row: row.state == "reset"):
        yield Finding(
            severity="error",
            text=f"{_count(reset, 'norm')} with trained scales have the statistics of an "
            f"initialisation, mean 0 and variance 1: {_some(reset)}",
            paths=reset,
        )
    if fresh := named(lambda row: row.state == "fresh"):
        whole = len(fresh) == len(norms)
        first = f"all {len(norms)} norms" if whole else f"{len(fresh)} of {len(norms)} norms"
        so = ", so the network was not trained" if whole else ", so they were not trained"
        yield Finding(
            severity="warning", text=f"{first} are as initialised{so}: {_some(fresh)}", paths=fresh
        )
    if constant := named(lambda row: bool(row.constant) and row.state == "trained"):
        total = sum(row.constant for row in norms if row.path in constant)
        yield Finding(
            severity="note",
            text=f"{total:,} channels of {_count(constant, 'norm')} have variance 0, so their "
            f"inputs were constant: {_some(constant)}",
            paths=constant,
        )


def _of_weights(weights: Sequence[WeightRow], sigma: float) -> Iterator[Finding]:
    if dead := tuple(row.path for row in weights if row.dead):
        total = sum(row.dead for row in weights)
        yield Finding(
            severity="warning",
            text=f"{total:,} filters of {_count(dead, 'layer')} are all zero: {_some(dead)}",
            paths=dead,
        )
    if out := tuple(row.path for row in weights if row.outliers):
        total = sum(row.outliers for row in weights)
        most = max(weights, key=lambda row: row.largest)
        yield Finding(
            severity="note",
            text=f"{total:,} weights of {_count(out, 'layer')} are more than {sigma:g} standard "
            f"deviations from their mean, the largest {most.largest:.0f}, in {most.path}: "
            f"{_some(out)}",
            paths=out,
        )


def _of_blocks(layers: Sequence[Located], norms: Sequence[NormRow]) -> Iterator[Finding]:
    """Blocks whose last norm has scale 0, as ``zero_init_last`` leaves them."""
    lasts = {
        one.block: one.path
        for one in layers
        if isinstance(one.layer, Norm) and one.branch == "main" and one.block is not None
    }
    zero = {row.path for row in norms if row.zero}
    blocks = tuple(block for block, path in lasts.items() if path in zero)
    if blocks:
        yield Finding(
            severity="note",
            text=f"the last norm of {_count(blocks, 'block')} has scale 0, so they pass on their "
            f"shortcuts: {_some(blocks)}",
            paths=blocks,
        )


def _limits(values: Array) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _span(limits: tuple[float, float] | None) -> str:
    if limits is None:
        return ""
    low, high = (f"{value:.3g}" for value in limits)
    return low if low == high else f"{low} .. {high}"


def _count(paths: Sequence[str], what: str) -> str:
    return f"{len(paths)} {what}{'s' if len(paths) > 1 else ''}"


def _some(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ", ".join(paths[:_NAMED]) + more


def _plain(row: NormRow | WeightRow) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in type(row).__slots__}
    return {name: _json(value) for name, value in values.items()}


def _json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_json(one) for one in value]
    return None if isinstance(value, float) and not is_finite(value) else value

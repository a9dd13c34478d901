"""Strides, dilations, epsilon and pools from the attributes of a pickled module.

Unlike a ``state_dict``, a pickled module has them; they resolve what its tensors leave open, and
the network must agree with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from resnetkit.architecture.layer import Conv, Norm
from resnetkit.checkpoints.checkpoint import Reading
from resnetkit.errors import InputError
from resnetkit.formats.opening import Container

#: The source of an option.
SOURCE = "the saved module"
#: Unsupported activations, by torch's class names.
_ACTIVATIONS = frozenset(
    "SiLU GELU LeakyReLU ELU CELU SELU PReLU RReLU Mish Hardswish HardSwish Swish Softplus ReLU6 "
    "Hardtanh Sigmoid Tanh FReLU".split()
)
Settings = Mapping[str, Mapping[str, Any]]


def with_settings(container: Container, reading: Reading) -> Reading:
    """The reading with the facts of the saved module.

    Raises ``InputError`` if the module differs from every network with these options.
    """
    settings = _settings(container, reading)
    if not settings:
        return reading
    stated = _stated(reading, settings)
    still_open = {fact.fact for fact in reading.ambiguous}
    stated = {name: value for name, value in stated.items() if name in still_open}
    found = reading.settle(**stated) if stated else reading
    _check(found, settings)
    return replace(found, known={**found.known, **dict.fromkeys(stated, SOURCE)})


def _settings(container: Container, reading: Reading) -> Settings:
    """The modules of the network, by their names in the file."""
    key = max((k for k in container.modules if reading.prefix.startswith(k)), key=len, default=None)
    if key is None or (key and not reading.prefix.startswith(f"{key}/")):
        return {}
    start = f"{key}/" if key else ""
    return {
        start + name: stated
        for name, stated in container.modules[key].items()
        if f"{start}{name}.".startswith(reading.prefix)
    }


def _stated(reading: Reading, settings: Settings) -> dict[str, Any]:
    """The options that the attributes determine, as far as present."""
    convs, norms = _layers(reading, settings, Conv), _layers(reading, settings, Norm)
    found: dict[str, Any] = _blurs(settings)
    epsilons = {stated["eps"] for stated in norms.values() if "eps" in stated}
    if len(epsilons) == 1:
        found["norm_epsilon"] = epsilons.pop()
    if found.get("anti_alias"):
        return found  # the strides are elsewhere
    strides = {
        path: stated["stride"][0] for path, stated in convs.items() if _is_pair(stated, "stride")
    }
    options = reading.network.options
    if "conv1" in strides:
        found["stem_conv_stride"] = strides["conv1"]
    later = range(2, len(options.depths) + 1)
    if any(strides.get(f"layer{stage}.0.conv1", 1) > 1 for stage in later):
        found["stride_on"] = "1x1"
    elif any(strides.get(f"layer{stage}.0.conv2", 1) > 1 for stage in later):
        found["stride_on"] = "3x3"
    found |= _pools(settings)
    if strides and "stem_pool" not in found and options.stem == "3x3":
        return found
    pool = found.get("stem_pool", options.stem_pool)
    reached = strides.get("conv1", 1) * (1 if pool == "none" else 2)
    for stage in later:
        first = [strides.get(f"layer{stage}.0.conv{n}", 1) for n in (1, 2)]
        reached *= max(first)
    if strides:
        found["output_stride"] = reached
    dilated = _entry(reading, convs)
    return found | ({"dilation_entry": dilated} if dilated else {})


def _entry(reading: Reading, convs: Settings) -> str | None:
    """The dilation of the last stage's first block, relative to its second."""
    last, middle = len(reading.network.options.depths), 2
    if reading.network.options.block == "basic":
        middle = 1
    first, second = (convs.get(f"layer{last}.{block}.conv{middle}", {}) for block in (0, 1))
    if not _is_pair(first, "dilation") or not _is_pair(second, "dilation"):
        return None
    if first["dilation"] != second["dilation"]:
        return "previous"
    behind = convs.get(f"layer{last}.1.conv2", {})
    is_basic = reading.network.options.block == "basic"
    return "all" if is_basic and behind.get("dilation") == second["dilation"] else "own"


def _blurs(settings: Settings) -> dict[str, Any]:
    """The subsampling in place of strides (timm's aa_layer)."""
    kinds = {
        stated["class"].rpartition(".")[2]
        for name, stated in settings.items()
        if name.rpartition(".")[2] == "aa"
    } - {"Identity"}
    for kind, means in (("AvgPool2d", "average"), ("BlurPool2d", "blur")):
        if kind in kinds:
            return {"anti_alias": means}
    return {}


def _pools(settings: Settings) -> dict[str, Any]:
    """The options of the pools: the stem's max-pool, and the one before the classifier."""
    found: dict[str, Any] = {}
    for name, stated in settings.items():
        kind = stated["class"].rpartition(".")[2]
        last = name.rpartition(".")[2]
        if kind == "Identity" and last == "maxpool":
            found["stem_pool"] = "none"
        elif kind == "MaxPool2d":
            shape = tuple(_single(stated.get(k)) for k in ("kernel_size", "stride", "padding"))
            up = bool(stated.get("ceil_mode"))
            if None in shape:
                continue  # compiled: only its program has them
            if (shape, up) == ((3, 2, 1), False):
                found["stem_pool"] = "padded"
            elif (shape, up) == ((3, 2, 0), True):
                found["stem_pool"] = "caffe"
            else:
                raise InputError(
                    f"the max-pool {name} of the saved module has kernel, stride and padding "
                    f"{shape}; resnetkit supports only 3, 2, 1 and Caffe's"
                )
        elif kind == "AdaptiveAvgPool2d" and last in ("avgpool", "pool", "global_pool"):
            found["head_pool"] = "global"
        elif kind == "AvgPool2d" and last == "avgpool" and _single(stated.get("kernel_size")) == 7:
            found["head_pool"] = "7x7"
    return found


def _check(reading: Reading, settings: Settings) -> None:
    """Check that every layer matches the network."""
    for name, stated in settings.items():
        kind = stated["class"].rpartition(".")[2]
        if kind in _ACTIVATIONS:
            raise InputError(
                f"the saved module has the activation {kind} at {name}; only ReLU is supported"
            )
    if reading.network.options.anti_alias != "none":
        return
    convs = {item.path: item.layer for item in reading.network.layers()}
    for path, stated in _layers(reading, settings, Conv).items():
        conv = convs[path]
        assert isinstance(conv, Conv)
        for word in ("stride", "padding", "dilation"):
            wanted = getattr(conv.slides, word)
            if _is_pair(stated, word) and stated[word] != [wanted, wanted]:
                theirs = _file_name(reading, path)
                raise InputError(
                    f"{theirs} of the saved module has {word} {stated[word][0]} and "
                    f"{reading.network.name} has {wanted} there, which is not supported"
                )
        if stated.get("padding_mode", "zeros") != "zeros":
            raise InputError(f"{_file_name(reading, path)} pads with {stated['padding_mode']}")
    for path, stated in _layers(reading, settings, Norm).items():
        if stated.get("eps", reading.network.options.norm_epsilon) != (
            reading.network.options.norm_epsilon
        ):
            raise InputError(
                f"{_file_name(reading, path)} of the saved module has eps {stated['eps']}, others "
                f"{reading.network.options.norm_epsilon}; all norms must have the same"
            )


def _layers(reading: Reading, settings: Settings, kind: type) -> dict[str, Mapping[str, Any]]:
    """The settings of our layers of a kind, by our paths."""
    found = {}
    for item in reading.network.layers():
        if isinstance(item.layer, kind):
            stated = settings.get(_file_name(reading, item.path))
            if stated is not None:
                found[item.path] = stated
    return found


def _file_name(reading: Reading, path: str) -> str:
    theirs = reading.names.get(f"{path}.weight", "")
    return theirs.rpartition(".")[0]


def _is_pair(stated: Mapping[str, Any], word: str) -> bool:
    value = stated.get(word)
    return isinstance(value, list) and len(value) == 2 and value[0] == value[1]


def _single(value: Any) -> Any:
    """A number, from a setting that may be a pair."""
    return value[0] if isinstance(value, list) and len(set(value)) == 1 else value

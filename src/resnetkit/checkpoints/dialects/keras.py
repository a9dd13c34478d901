"""Keras applications: ResNet50, 101 and 152, in the four spellings in which Keras saves them.

Source: keras/src/applications/resnet.py. Kernels are HWIO, dense layers (in, out), convolutions
have a bias, epsilon is 1.001e-5. Layers are ``conv2_block1_1_conv``; ``_0_`` is the shortcut.
Spellings: paths of variables; legacy HDF5, whose datasets repeat the layer (tf.keras adds ``:0``);
and ``.weights.h5`` of Keras 3, which numbers layers by class in the order of ``model.layers``.

Legacy files are read by the order of the layers and of each layer's weights, which are listed in
``layer_names`` and ``weight_names`` (keras/src/legacy/saving/legacy_h5_format.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from resnetkit.architecture.layer import Shape
from resnetkit.architecture.network import Network
from resnetkit.architecture.parameters import NetworkPart, ParameterKind, Place, places
from resnetkit.checkpoints.dialect import Dialect, DialectPreprocess, HDF5Attributes
from resnetkit.preprocess import Preprocess

_CODE = "keras/src/applications/resnet.py"
_NORM = ("weight", "bias", "running_mean", "running_var")
_BY_NAME: Mapping[ParameterKind, Mapping[str, str]] = {
    "conv": {"weight": "/kernel", "bias": "/bias"},
    "norm": dict(zip(_NORM, ("/gamma", "/beta", "/moving_mean", "/moving_variance"), strict=True)),
    "linear": {"weight": "/kernel", "bias": "/bias"},
}
_BY_NUMBER: Mapping[ParameterKind, Mapping[str, str]] = {
    "conv": {"weight": "/vars/0", "bias": "/vars/1"},
    "norm": {name: f"/vars/{number}" for number, name in enumerate(_NORM)},
    "linear": {"weight": "/vars/0", "bias": "/vars/1"},
}
_GROUPS: Mapping[str, str] = {"conv": "conv2d", "norm": "batch_normalization", "linear": "dense"}
#: A block's layers in the order of ``model.layers``, which is that of their depth in the graph.
_ORDER: tuple[tuple[ParameterKind, NetworkPart, int], ...] = (
    *(("conv", "main", 1), ("norm", "main", 1)),
    *(("conv", "main", 2), ("norm", "main", 2)),
    *(("conv", "shortcut", 1), ("conv", "main", 3)),
    *(("norm", "shortcut", 1), ("norm", "main", 3)),
)
_CONVS = tuple((part, number) for kind, part, number in _ORDER if kind == "conv")


def path(place: Place) -> str:
    """``conv1_conv``, ``conv1_bn``, ``conv2_block1_1_conv``, ``conv2_block1_0_bn``."""
    layer = "conv" if place.kind == "conv" else "bn"
    if place.part == "stem":
        return f"conv{place.number}_{layer}"
    number = 0 if place.part == "shortcut" else place.number
    return f"conv{place.stage + 1}_block{place.block + 1}_{number}_{layer}"


def _group(kind: ParameterKind, number: int) -> str:
    return f"layers/{_GROUPS[kind]}" + (f"_{number}" if number else "")


def ordered(network: Network) -> dict[str, Place]:
    """Our paths and places of the layers with parameters, in the order of ``model.layers``."""
    return dict(sorted(places(network).items(), key=lambda item: _position(item[1])))


def _position(place: Place) -> tuple[bool, int, int, int]:
    within = (place.kind, place.part, place.number)
    last = _ORDER.index(within) if within in _ORDER else int(place.kind == "norm")
    return place.part == "head", place.stage, place.block, last


def created(network: Network) -> dict[str, str]:
    """Our paths to ``layers/conv2d_3``: numbered by class in the order of ``model.layers``."""
    counts = dict.fromkeys(_GROUPS, 0)
    found: dict[str, str] = {}
    for ours, place in ordered(network).items():
        found[ours] = _group(place.kind, counts[place.kind])
        counts[place.kind] += 1
    return found


def _layer(place: Place) -> str:
    return "predictions" if place.part == "head" else path(place)


def _listed(version: str) -> Callable[[Network, Iterable[str]], HDF5Attributes]:
    """Attributes of legacy files; without ``keras_version``, kernels would be read as Keras 1's."""

    def described(network: Network, names: Iterable[str]) -> HDF5Attributes:
        layers = {_layer(place): list[str]() for place in ordered(network).values()}
        for name in names:
            layer, _, weight = name.partition("/")
            layers[layer].append(weight)
        whole = {"layer_names": list(layers), "backend": "tensorflow", "keras_version": version}
        return {"": whole, **{layer: {"weight_names": w} for layer, w in layers.items()}}

    return described


def _labelled(network: Network, _names: Iterable[str]) -> HDF5Attributes:
    """The layers' names beside the numbered groups, as noted by Keras 3."""
    groups, layers = created(network), ordered(network)
    return {f"{groups[ours]}/vars": {"name": _layer(place)} for ours, place in layers.items()}


def named(shapes: Mapping[str, Shape], prefix: str) -> dict[str, Shape]:
    """Numbered tensors below ``prefix`` by the layers' names, as far as they form a ResNet.

    A block's convolutions output w, w, 4w, or w, w, 4w, 4w if the third is the shortcut.
    """
    outputs: list[int] = []
    while (width := _width(shapes, prefix + _group("conv", len(outputs)))) is not None:
        outputs.append(width)
    found: dict[str, Shape] = {}
    for number, place in enumerate(_parsed(outputs)):
        for kind in ("conv", "norm"):
            _rename(shapes, prefix, _group(kind, number), path(replace(place, kind=kind)), found)
    _rename(shapes, prefix, _group("linear", 0), "predictions", found)
    return found


def _width(shapes: Mapping[str, Shape], group: str) -> int | None:
    """Outputs of a numbered convolution, by its bias or else by its kernel."""
    for name in ("/vars/1", "/vars/0"):
        if shapes.get(group + name):
            return shapes[group + name][-1]
    return None


def _rename(
    shapes: Mapping[str, Shape], prefix: str, group: str, layer: str, found: dict[str, Shape]
) -> None:
    for number in range(len(_NORM)):
        theirs = f"{prefix}{group}/vars/{number}"
        if theirs in shapes:
            found[f"{prefix}{layer}/vars/{number}"] = shapes[theirs]


def _parsed(outputs: list[int]) -> Iterator[Place]:
    """The places of convolutions in the order of ``model.layers``, by their outputs."""
    yield Place(kind="conv", part="stem")
    at, stage, block = 1, 0, 0
    while at + 2 < len(outputs):
        width = outputs[at]
        first = at + 3 < len(outputs) and outputs[at + 2] == outputs[at + 3] == 4 * width
        stage, block = (stage + 1, 0) if first else (stage, block + 1)
        for part, number in _CONVS if first else _CONVS[:2] + _CONVS[3:]:
            yield Place(kind="conv", part=part, number=number, stage=stage, block=block)
        at += 4 if first else 3


_FIXED: dict[str, Any] = {
    "stem_pool": "padded",
    "stride_on": "1x1",
    "norm_epsilon": 1.001e-5,
    "norm_momentum": 0.01,
    "head_pool": "global",
    "dilation_entry": "previous",
}


def _spelling(name: str, about: str, **differences: Any) -> Dialect:
    return Dialect(
        name=name,
        about=about,
        source=_CODE,
        path=path,
        heads=("predictions",),
        sizes_first=True,
        absent=("num_batches_tracked",),
        holds={
            "block": ("bottleneck",),
            "groups": (1,),
            "width_per_group": (64,),
            "stem": ("7x7",),
            "stem_padding": (3,),
            "shortcut": ("projection",),
            "squeeze_excitation": (None,),
            "conv_bias": (True,),
            "rounding": ("floor",),
            **{option: (value,) for option, value in _FIXED.items()},
        },
        fixed=_FIXED,
        preprocess=(
            DialectPreprocess(
                label="keras.applications",
                preprocess=Preprocess(
                    size=224,
                    resize="squash",
                    interpolation="nearest",
                    channels="BGR",
                    divisor=1.0,
                    mean=(103.939, 116.779, 123.68),
                    std=(1.0, 1.0, 1.0),
                ),
                source="keras.applications.resnet.preprocess_input; load_img resizes to nearest",
            ),
        ),
        **differences,
    )


DIALECTS = (
    _spelling("keras", "Keras applications, by the paths of variables", suffixes=_BY_NAME),
    _spelling(
        "keras-h5",
        "Keras applications in legacy HDF5",
        suffixes=_BY_NAME,
        template="{path}/{path}{suffix}",
        endings=(".h5", ".hdf5"),
        described=_listed("3.0.0"),
    ),
    _spelling(
        "keras-h5-tf",
        "Keras applications in legacy HDF5 of tf.keras",
        suffixes=_BY_NAME,
        template="{path}/{path}{suffix}:0",
        endings=(".h5", ".hdf5"),
        described=_listed("2.15.0"),
    ),
    _spelling(
        "keras-weights",
        "Keras applications in .weights.h5 of Keras 3",
        suffixes=_BY_NUMBER,
        spell=created,
        respell=named,
        anchors=("layers/conv2d/vars/0", "layers/conv2d/vars/1"),
        endings=(".weights.h5",),
        described=_labelled,
    ),
)

"""Dialects: a framework's parameter names and layouts, and the facts its tensors omit.

A dialect is defined once, as the name of a ``Place``. Writing uses the names of a network's places;
reading looks for the same names, and so finds the matching network (``checkpoint.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from resnetkit.architecture.layer import Shape
from resnetkit.architecture.network import Network
from resnetkit.architecture.options import Options
from resnetkit.architecture.parameters import TENSORS, ParameterKind, Place, places, tensors
from resnetkit.checkpoints.facts import Fact
from resnetkit.errors import InputError
from resnetkit.preprocess import Preprocess

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

#: torch's names of a layer's tensors, by ours.
TORCH: Mapping[ParameterKind, Mapping[str, str]] = MappingProxyType(
    {
        kind: MappingProxyType({name: f".{name}" for name in (*names, "bias")})
        for kind, names in TENSORS.items()
    }
)


#: Values that frameworks usually support; exceptions are in ``holds``.
USUAL: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "blocks": (None,),
        "reduce_first": (1,),
        "conv_widths": (None,),
        "shortcut_kernel": (1,),
        "stem_pool": ("padded", "caffe", "none"),
        "anti_alias": ("none",),
        "efficient_attention": (False,),
        "norm": ("batch",),
    }
)
#: Any value of each, for ``holds``: an empty tuple allows every value.
UNUSUAL: Mapping[str, tuple[Any, ...]] = MappingProxyType(dict.fromkeys(USUAL, ()))
#: Attributes of an HDF5 file's groups, by group name, ``""`` for the file.
HDF5Attributes = Mapping[str, Mapping[str, str | Sequence[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DialectPreprocess:
    """One preprocessing of a framework, and its source.

    ``applies`` selects the networks it is documented for; None for all.
    """

    label: str
    preprocess: Preprocess
    source: str
    applies: Callable[[Options], bool] | None = None


#: ImageNet's mean and standard deviation for pixels in 0..255: torchvision's times 255.
RGB_255: Mapping[str, Any] = {
    "divisor": 1.0,
    "mean": (123.675, 116.28, 103.53),
    "std": (58.395, 57.12, 57.375),
}


#: For one-channel networks, whose preprocessing no framework documents.
GREY = DialectPreprocess(
    label="grey",
    preprocess=Preprocess(size=224, resize_to=256, channels="L", mean=(0.0,), std=(1.0,)),
    source="pixels in 0..1; no project is known to document another",
)
#: For undocumented preprocessing of three-channel images.
COLOUR = DialectPreprocess(
    label="ImageNet",
    preprocess=Preprocess(size=224),
    source="not documented: RGB with the mean and deviation that most projects use",
)


def fitting(
    choices: Iterable[DialectPreprocess], network: Network
) -> tuple[DialectPreprocess, ...]:
    """The preprocessings documented for ``network``, with the same number of channels.

    Defaults to ``GREY`` for a single channel and ``COLOUR`` for three, in the network's default
    size.
    """
    channels = network.options.in_chans
    found = tuple(
        choice
        for choice in choices
        if choice.preprocess.channel_count == channels
        and (choice.applies is None or choice.applies(network.options))
    )
    usual = {1: GREY, 3: COLOUR}.get(channels)
    if found or usual is None:
        return found
    plain = replace(usual.preprocess, size=network.input_size, resize_to=None)
    return (replace(usual, preprocess=plain),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one framework names and lays out the parameters of a ResNet.

    ``path`` returns the name of a body layer, below ``root``; ``heads`` are the names of the fully
    connected layer: the first is written and all are read. ``suffixes`` are the tensors of each
    kind of layer, and ``template`` joins both. ``sizes_first`` means HWIO kernels and (in, out)
    dense layers. ``absent`` are tensors that its files lack; ``unfolds`` means that a file may have
    only scales and biases of norms with folded statistics, and ``folds`` that they are written so.

    ``holds`` are the option values that the framework's code supports, by default ``USUAL`` (others
    cannot be written); ``fixed`` are assumed when reading. ``facts`` and ``preprocess`` are not
    determined by the tensors; ``configured`` returns the options in a configuration.

    If names do not determine places (numbers in order of creation), ``spell`` returns the layers of
    a network by our paths, ``respell`` the tensors below a prefix by the names of ``path``, and
    ``anchors`` the names to look for.

    ``endings`` are the suffixes of written files; ``described`` returns the attributes of an HDF5
    file, from the network and the names of the arrays.

    ``evidence`` are tensors outside the body, one of which is required to select the dialect, e.g.
    the head of a framework's segmentation networks, which determines the dilation of the body.
    ``read_only`` dialects are never written. ``beside_root`` is a pattern of names beside a
    ``root`` shared with other frameworks, which identifies this one.
    """

    name: str
    about: str
    source: str
    path: Callable[[Place], str]
    root: str = ""
    heads: tuple[str, ...] = ("fc",)
    suffixes: Mapping[ParameterKind, Mapping[str, str]] = field(default_factory=lambda: TORCH)
    template: str = "{path}{suffix}"
    sizes_first: bool = False
    absent: tuple[str, ...] = ()
    unfolds: bool = False
    folds: bool = False
    holds: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    preprocess: tuple[DialectPreprocess, ...] = ()
    configured: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    spell: Callable[[Network], dict[str, str]] | None = None
    respell: Callable[[Mapping[str, Shape], str], dict[str, Shape]] | None = None
    anchors: tuple[str, ...] = ()
    endings: tuple[str, ...] = (".safetensors", ".pth", ".pt", ".pkl")
    described: Callable[[Network, Iterable[str]], HDF5Attributes] | None = None
    evidence: tuple[str, ...] = ()
    read_only: bool = False
    beside_root: str = ""

    def has(self, option: str, value: object) -> bool:
        """Whether the framework supports that value of an option."""
        values = {**USUAL, **self.holds}.get(option, ())
        return not values or value in values

    def tensor(self, layer: str, kind: ParameterKind, name: str) -> str:
        """The name of one tensor of the layer named ``layer``."""
        return self.template.format(path=layer, suffix=self.suffixes[kind][name])

    def layer(self, place: Place, *, rooted: bool = True) -> tuple[str, ...]:
        """The possible names of the layer at ``place``, the written one first."""
        if place.part == "head":
            return self.heads
        return ((self.root if rooted else "") + self.path(place),)

    def cannot(self, options: Options) -> str | None:
        """Why the framework does not support ``options``; None if it does."""
        for option, values in {**USUAL, **self.holds}.items():
            value = getattr(options, option)
            if option == "head_pool" and options.num_classes is None:
                continue  # a backbone is used without its head
            if values and value not in values:
                allowed = ", ".join(_text(v) for v in values)
                return f"{option} is {_text(value)}, and {self.name} has only {allowed}"
        if "stem_conv_stride" not in self.holds:
            small = options.stem == "3x3"
            natural = options.natural_conv_stride
            if options.stem_conv_stride != natural:
                return (
                    f"stem_conv_stride is {options.stem_conv_stride}, and {self.name} has {natural}"
                )
            if small and options.stem_pool != "none":
                return f"stem_pool is {options.stem_pool}, and {self.name} has none after a 3x3"
        dilates = any(fact.option == "output_stride" for fact in self.facts)
        if not dilates and options.output_stride != options.natural_stride:
            return f"output_stride is {options.output_stride}, and {self.name} dilates no stage"
        return None

    def layers(self, network: Network, *, rooted: bool = True, head: int = 0) -> dict[str, str]:
        """The names of layers with parameters, from our paths to theirs, unchecked."""
        spelled = self.spell(network) if self.spell else None
        found = {}
        for path, place in places(network).items():
            if spelled is not None:
                found[path] = spelled[path]
            else:
                names = self.layer(place, rooted=rooted)
                found[path] = names[head] if place.part == "head" else names[0]
        return found

    def map(
        self, network: Network, *, rooted: bool = True, head: int = 0, prefix: str = ""
    ) -> dict[str, str]:
        """Every tensor of ``network``, from our names to theirs, for reading, unchecked."""
        layers = self.layers(network, rooted=rooted, head=head)
        kinds = {path: place.kind for path, place in places(network).items()}
        found = {}
        for ours in tensors(network):
            path, _, name = ours.rpartition(".")
            if name in self.suffixes[kinds[path]]:
                found[ours] = prefix + self.tensor(layers[path], kinds[path], name)
        return found

    def names(self, network: Network) -> dict[str, str]:
        """The tensors in the framework's file of ``network``, from our names to theirs.

        Raises ``InputError`` for a network that the framework does not support.
        """
        reason = self.cannot(network.options)
        if reason is not None:
            raise InputError(
                f"{self.name} does not support {network.name}: {reason}; "
                "choose another framework, or a network that it supports"
            )
        skipped = {"running_mean", "running_var"} if self.folds else set()
        return {
            ours: theirs
            for ours, theirs in self.map(network).items()
            if ours.rpartition(".")[2] not in {*self.absent, *skipped}
        }

    def shape(self, ours: Shape) -> Shape:
        """Our shape in their layout."""
        return _sizes_first(ours) if self.sizes_first else ours

    def our_shape(self, theirs: Shape) -> Shape:
        """Their shape in our layout: kernels OIHW, dense layers (out, in)."""
        return _sizes_last(theirs) if self.sizes_first else theirs

    def to_ours(self, array: Array) -> Array:
        """One of their arrays in our layout, as a view if possible."""
        return array.transpose(_AXES_TO_OURS[array.ndim]) if self._turns(array) else array

    def to_theirs(self, array: Array) -> Array:
        """One of our arrays in their layout."""
        return array.transpose(_AXES_TO_THEIRS[array.ndim]) if self._turns(array) else array

    def _turns(self, array: Array) -> bool:
        return self.sizes_first and array.ndim in _AXES_TO_OURS

    def write(self, network: Network, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Convert our tensors to the framework's, each used exactly once with its exact shape.

        Norms are folded if the framework has only scale and bias; counters that it lacks are
        dropped. Raises ``InputError`` as ``names`` does, and for arrays that do not match
        ``network``.
        """
        names = self.names(network)
        _check_ours(network, arrays)
        if self.folds:
            arrays = _fold(network, arrays)
        return {theirs: self.to_theirs(arrays[ours]) for ours, theirs in names.items()}


_AXES_TO_OURS = {4: (3, 2, 0, 1), 2: (1, 0)}
_AXES_TO_THEIRS = {4: (2, 3, 1, 0), 2: (1, 0)}


def _sizes_last(shape: Shape) -> Shape:
    axes = _AXES_TO_OURS.get(len(shape))
    return shape if axes is None else tuple(shape[axis] for axis in axes)


def _sizes_first(shape: Shape) -> Shape:
    axes = _AXES_TO_THEIRS.get(len(shape))
    return shape if axes is None else tuple(shape[axis] for axis in axes)


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_ours(network: Network, arrays: Mapping[str, Array]) -> None:
    wanted = tensors(network)
    for name in (*wanted, *arrays):
        if name not in arrays:
            raise InputError(f"the weights of {network.name} lack {name}; give all {len(wanted)}")
        if name not in wanted:
            raise InputError(f"{network.name} has no tensor {name}; leave it out")
        if tuple(arrays[name].shape) != wanted[name]:
            raise InputError(
                f"{name} is {tuple(arrays[name].shape)} and {network.name} has {wanted[name]}"
            )


def _fold(network: Network, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Fold the running statistics of norms into ``scale * x + bias``.

    ``(x - mean) / sqrt(var + eps) * weight + bias``, computed in float64.
    """
    import numpy as np

    folded = dict(arrays)
    for path, place in places(network).items():
        if place.kind != "norm":
            continue
        weight, bias, mean, variance = (
            np.asarray(arrays[f"{path}.{name}"], dtype=np.float64) for name in TENSORS["norm"][:4]
        )
        scale = weight / np.sqrt(variance + network.options.norm_epsilon)
        dtype = arrays[f"{path}.weight"].dtype
        folded[f"{path}.weight"] = scale.astype(dtype)
        folded[f"{path}.bias"] = (bias - mean * scale).astype(dtype)
    return folded


def torchvision_path(place: Place) -> str:
    """``conv1``, ``bn1``, ``layer1.0.conv1``, ``layer1.0.bn1``, ``layer1.0.downsample.0``:
    torchvision's names, which most projects copied."""
    layer = f"{'conv' if place.kind == 'conv' else 'bn'}{place.number}"
    if place.part == "stem":
        return layer
    if place.part == "shortcut":
        layer = f"downsample.{0 if place.kind == 'conv' else 1}"
    return f"layer{place.stage}.{place.block}.{layer}"

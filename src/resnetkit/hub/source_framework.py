"""Runs a checkpoint in its source framework, to compare it with our network.

One function per framework builds the network from a checkpoint's options and lets the framework
load the original file. The frameworks are imported only here.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from resnetkit.architecture import registry
from resnetkit.architecture.network import Network
from resnetkit.architecture.option_fields import EXPANSION
from resnetkit.architecture.options import Options
from resnetkit.bundle.bundle import Bundle
from resnetkit.bundle.equivalence import OutputComparison, answers, compare, images
from resnetkit.checkpoints.checkpoint import Reading
from resnetkit.checkpoints.config_json import beside
from resnetkit.checkpoints.identification import identify, is_bundle
from resnetkit.checkpoints.recognition import dialect
from resnetkit.errors import InputError, check_installed
from resnetkit.formats.opening import Container, open_container
from resnetkit.hub.load_options import LoadOptions
from resnetkit.hub.loading import load_checkpoint

#: Relative difference above which networks are not the same.
MOST = 1e-4
#: Options that a catalogue network may have besides its name.
_BESIDES = {"num_classes", "in_chans", "output_stride"}
_STANDARD = (64, 128, 256, 512)


#: A framework's network: pixels ``(N, C, size, size)`` to logits, or to pooled features without fc.
Model = Callable[[Tensor], Tensor]


class _NoNetworkError(Exception):
    """The framework has no network with these options; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A checkpoint to run in its own framework."""

    path: Path
    kind: str
    reading: Reading
    network: Network
    size: int

    @property
    def options(self) -> Options:
        """The options that were found, given and assumed."""
        return self.network.options


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The framework with its version, and the difference between its outputs and ours."""

    framework: str
    found: OutputComparison

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {"framework": self.framework, **self.found.to_dict()}


def verify(
    source: str | Path,
    bundle: Bundle | None = None,
    *,
    prefix: str | None = None,
    ema: bool | None = None,
) -> Verified:
    """Run ``source`` in its own framework and compare it with ``bundle``, by default loaded from
    it.

    ``prefix`` and ``ema`` are those it was loaded with. Raises ``ValueError`` for a bundle, for a
    framework that is not installed or has no such network, and if the outputs differ by more than
    ``MOST`` of the largest.

    >>> resnetkit.verify("theirs.pth").found.relative < 1e-5
    True
    """
    container = open_container(source)
    if bundle is None:
        bundle = load_checkpoint(source, LoadOptions(prefix=prefix, ema=ema))
    if is_bundle(container):
        raise InputError(f"{source} is a bundle; only other frameworks' files can be verified")
    reading = identify(container, prefix=prefix, ema=ema).reading
    origin = _source(bundle, container, reading)
    reasons = []
    for name in (reading.dialect.name, *reading.also):
        package = name.partition("-")[0]
        if package not in FRAMEWORKS:
            continue
        try:
            check_installed(package, "verification")
        except InputError as error:
            reasons.append(str(error))
            continue
        if package == "pytorchcv":  # its head has a pool of fixed size
            origin = replace(origin, size=32 if bundle.network.options.stem == "3x3" else 224)
        pixels = images(bundle.network.options.in_chans, origin.size)
        try:
            answer = _run(origin, name, package, torch.from_numpy(pixels)).numpy()
        except _NoNetworkError as error:
            reasons.append(f"{package} has no such network: {error}")
            continue
        ours = answers(bundle.network, bundle.numbers, pixels)
        found = compare(ours.reshape(len(ours), -1), answer.reshape(len(answer), -1))
        version = f"{package} {importlib.metadata.version(package)}"
        if found.relative > MOST:
            raise InputError(
                f"{source}: the network of {version} differs by "
                f"{found.relative:.2g} of the largest logit; a given or assumed fact is wrong"
            )
        return Verified(framework=version, found=found)
    if not reasons:
        reasons = [f"{reading.dialect.name} cannot be run; supported are {', '.join(FRAMEWORKS)}"]
    raise InputError(f"{source} cannot be verified with its source: {'; '.join(reasons)}")


def rival(bundle: Bundle, package: str, folder: Path) -> Model:
    """The network of ``package`` with the weights of ``bundle``, loaded from a file written into
    ``folder``.

    Raises ``ValueError`` for a package that is unknown or not installed, or lacks the network.
    """
    if package not in RIVALS:
        raise InputError(f"{package!r} is not supported; supported are {', '.join(RIVALS)}")
    check_installed(package, "the comparison")
    path = folder / f"{package}.safetensors"
    bundle.save(path, dialect=package)
    container = open_container(path)
    reading = identify(container).reading
    try:
        return FRAMEWORKS[package](_source(bundle, container, reading))
    except _NoNetworkError as error:
        raise InputError(f"{package} has no such network: {error}") from None


def _source(bundle: Bundle, container: Container, reading: Reading) -> Source:
    return Source(
        path=container.path,
        kind=container.kind,
        reading=reading,
        network=bundle.network,
        size=bundle.preprocess.size,
    )


@torch.inference_mode()
def _run(source: Source, name: str, package: str, pixels: Tensor) -> Tensor:
    reason = dialect(name).cannot(source.options)
    if reason is not None:
        raise _NoNetworkError(reason)
    try:
        return FRAMEWORKS[package](source)(pixels)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        line = " ".join(str(error).split())
        raise _NoNetworkError(line if len(line) <= 160 else f"{line[:157]}...") from None


def _need(option: str, value: object, *allowed: object) -> None:
    if value not in allowed:
        only = " or ".join(map(str, allowed))
        raise _NoNetworkError(f"{option} is {value}, and it has only {only}")


# ------------------------------------------------------------------- torch's own loading


def _state(source: Source) -> dict[str, Tensor]:
    """The original file loaded by torch or safetensors: the network's tensors by name."""
    if source.kind == "safetensors":
        loaded: Any = safetensors.torch.load_file(source.path)
    elif source.kind in ("torch", "torch-legacy"):
        # timm's training checkpoints contain one; it only holds values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(source.path, map_location="cpu", weights_only=True)
    else:
        raise _NoNetworkError("it only loads torch and safetensors files")
    tensors = dict(_tensors(loaded))
    prefix = source.reading.prefix
    return {name.removeprefix(prefix): tensors[name] for name in source.reading.names.values()}


def _tensors(value: Any, path: str = "") -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(path, value)]
    items = value.items() if isinstance(value, Mapping) else ()
    return [f for key, v in items for f in _tensors(v, f"{path}/{key}" if path else str(key))]


def _loaded(module: nn.Module, state: Mapping[str, Tensor]) -> Model:
    module.load_state_dict(state, strict=True)
    return module.eval()


def _norm(options: Options) -> Callable[..., nn.Module]:
    return partial(nn.BatchNorm2d, eps=options.norm_epsilon)


def _torchvision(source: Source) -> Model:
    code, options = import_module("torchvision.models.resnet"), source.options
    _need("widths", options.widths, _STANDARD)
    _need("in_chans", options.in_chans, 3)
    _need("anti_alias", options.anti_alias, "none")
    dilated = options.natural_stride // (options.output_stride or 1)
    module = code.ResNet(
        code.BasicBlock if options.block == "basic" else code.Bottleneck,
        list(options.depths),
        num_classes=options.num_classes or 1,
        groups=options.groups,
        width_per_group=options.width_per_group,
        replace_stride_with_dilation=[dilated > 4, dilated > 2, dilated > 1],
        norm_layer=_norm(options),
    )
    if options.num_classes is None:
        module.fc = nn.Identity()
    return _loaded(module, _state(source))


def _timm(source: Source) -> Model:
    timm, code = import_module("timm"), import_module("timm.models.resnet")
    options = source.options
    given = {
        "num_classes": options.num_classes or 0,
        "in_chans": options.in_chans,
        "output_stride": options.output_stride,
    }
    if _catalogued(source.network) and timm.is_model(source.network.name):
        return _loaded(timm.create_model(source.network.name, **given), _state(source))
    _need("conv_widths", options.conv_widths, None)
    layers, attention = import_module("timm.layers"), {}
    if options.squeeze_excitation is not None:
        attention["attn_layer"] = partial(
            layers.SEModule,
            rd_ratio=1 / options.squeeze_excitation,
            rd_divisor=options.squeeze_multiple,
        )
    if options.efficient_attention:
        attention["attn_layer"] = layers.EcaModule
    norm = _norm(options)
    if options.norm == "group":
        norm = partial(layers.GroupNorm, num_groups=options.norm_groups, eps=options.norm_epsilon)
    pools = {"none": None, "average": nn.AvgPool2d, "blur": layers.BlurPool2d}
    blocks = {"basic": code.BasicBlock, "bottleneck": code.Bottleneck}
    module = code.ResNet(
        [blocks[kind] for kind in options.stage_blocks],
        options.depths,
        cardinality=options.groups,
        base_width=options.width_per_group,
        avg_down=options.shortcut == "avgpool+projection",
        replace_stem_pool=options.stem_pool == "conv",
        block_reduce_first=options.reduce_first,
        down_kernel_size=options.shortcut_kernel,
        channels=options.widths,
        norm_layer=norm,
        aa_layer=pools[options.anti_alias],
        block_args=attention,
        **_timm_stem(options),
        **given,
    )
    return _loaded(module, _state(source))


def _catalogued(network: Network) -> bool:
    """Whether it is the catalogue's network of that name, apart from classes and the like."""
    if network.name not in {entry.name for entry in registry.catalog()}:
        return False
    return set(network.options.differences(registry.network(network.name).options)) <= _BESIDES


def _timm_stem(options: Options) -> dict[str, Any]:
    assert options.stem_widths is not None
    if options.stem != "deep":
        _need("stem_widths", options.stem_widths, (64,))
        return {}
    first, width, last = options.stem_widths
    _need("the stem's last width", last, 2 * width)
    _need("the stem's first width", first, width, 3 * (width // 4))
    return {"stem_width": width, "stem_type": "deep" if first == width else "deep_tiered"}


def _transformers(source: Source) -> Model:
    code, options = import_module("transformers"), source.options
    assert options.stem_widths is not None
    _need("norm_epsilon", options.norm_epsilon, 1e-5)
    config = code.ResNetConfig(
        num_channels=options.in_chans,
        embedding_size=options.stem_widths[0],
        hidden_sizes=[width * EXPANSION[options.block] for width in options.widths],
        depths=list(options.depths),
        layer_type=options.block,
        downsample_in_bottleneck=options.stride_on == "1x1",
        num_labels=options.num_classes or 1,
    )
    stated = beside(source.path)
    if stated is not None and stated.model and stated.model.get("model_type") == "resnet":
        config = code.ResNetConfig.from_dict(dict(stated.model))
    state = _state(source)
    if options.num_classes is None:
        module = code.ResNetModel(config)
        module.load_state_dict({name.removeprefix("resnet."): v for name, v in state.items()})
        module.eval()
        return lambda pixels: module(pixels).pooler_output
    module = code.ResNetForImageClassification(config)
    module.load_state_dict(state)
    module.eval()
    return lambda pixels: module(pixels).logits


def _pytorchcv(source: Source) -> Model:
    options = source.options
    assert options.stem_widths is not None
    _need("norm_epsilon", options.norm_epsilon, 1e-5)
    _need("stem", options.stem, "7x7", "3x3")
    _need("output_stride", options.output_stride, options.natural_stride)
    squeezed, grouped = options.squeeze_excitation is not None, options.groups > 1
    small = options.stem == "3x3"
    name = f"{'SE' if squeezed else ''}{'ResNeXt' if grouped else 'ResNet'}"
    file = f"{name.lower()}{'_cifar' if small else ''}"
    given: dict[str, Any] = {"bottleneck": options.block == "bottleneck"}
    if grouped:
        given = {"cardinality": options.groups, "bottleneck_width": options.width_per_group}
    elif not small:
        given["conv1_stride"] = options.stride_on == "1x1"
    outputs = [width * EXPANSION[options.block] for width in options.widths]
    module = getattr(import_module(f"pytorchcv.models.{file}"), "CIFAR" * small + name)(
        channels=[[o] * depth for o, depth in zip(outputs, options.depths, strict=True)],
        init_block_channels=options.stem_widths[0],
        in_channels=options.in_chans,
        in_size=(source.size, source.size),
        num_classes=options.num_classes or 1,
        **given,
    )
    if options.num_classes is None:
        module.output = nn.Identity()
    return _loaded(module, _state(source))


def _keras(source: Source) -> Model:
    if not source.path.name.lower().endswith((".h5", ".hdf5", ".keras")):
        raise _NoNetworkError("load_weights requires a .h5, .weights.h5 or .keras file")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras, code = import_module("keras"), import_module("keras.src.applications.resnet")
    options = source.options
    _need("in_chans", options.in_chans, 3)
    _need("stem_widths", options.stem_widths, (64,))

    def stages(x: Any) -> Any:
        for number, (width, depth) in enumerate(zip(options.widths, options.depths, strict=True)):
            stride = 2 if number else 1
            x = code.stack_residual_blocks_v1(x, width, depth, stride, name=f"conv{number + 2}")
        return x

    head: dict[str, Any] = {"include_top": False, "pooling": "avg"}
    if options.num_classes is not None:
        head = {"classes": options.num_classes, "classifier_activation": None}
    shape = (source.size, source.size, 3)
    model = code.ResNet(stages, False, True, weights=None, input_shape=shape, **head)
    model.load_weights(source.path)

    def answer(pixels: Tensor) -> Tensor:
        found = model(pixels.permute(0, 2, 3, 1).contiguous().numpy(), training=False)
        return torch.from_numpy(keras.ops.convert_to_numpy(found))

    return answer


#: The supported frameworks, by package name.
FRAMEWORKS: Mapping[str, Callable[[Source], Model]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "transformers": _transformers,
    "pytorchcv": _pytorchcv,
    "keras": _keras,
}
#: Those that load what `bundle.save` writes, for benchmarks.
RIVALS = ("torchvision", "timm", "transformers")

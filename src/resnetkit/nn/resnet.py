"""The torch module of a network.

Submodules are named by the paths of their layers; for torchvision's networks these are its
parameter names: ``conv1``, ``layer1.0.conv1``, ``layer1.0.downsample.0``, ``fc``.
"""

# No `from __future__ import annotations`: torch.fx passes the annotations of `forward` to
# TorchScript, which requires types.
from collections.abc import Sequence
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.utils.checkpoint import checkpoint

from resnetkit.architecture import registry
from resnetkit.architecture.block import Block
from resnetkit.architecture.layer import Norm
from resnetkit.architecture.network import Network
from resnetkit.errors import InputError, require
from resnetkit.nn.feature_info import FeatureInfo
from resnetkit.nn.layers import leaf


class _Scriptable(nn.Module):
    """A module whose ``forward`` depends on the description, so TorchScript cannot compile it.

    ``torch.jit.script`` compiles its ``torch.fx`` trace instead, with the same operations.
    """

    def __prepare_scriptable__(self) -> fx.GraphModule:
        return fx.symbolic_trace(self)


class ResidualBlock(_Scriptable):
    """``relu(shortcut(x) + main(x))``, or with a gate ``relu(shortcut(x) + main(x) * gate)``.

    ``(N, C, H, W) -> (N, C', H', W')``.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block
        for layer in (*block.main, *block.gate, *block.shortcut, *block.junction):
            parent, _, name = layer.name.rpartition(".")
            if parent and parent not in self._modules:
                self.add_module(parent, nn.Sequential())
            self.get_submodule(parent).add_module(name, leaf(layer, f"{block.name}.{layer.name}"))

    def forward(self, x: Tensor) -> Tensor:
        block, child = self.block, self.get_submodule
        y = x
        for layer in block.main:
            y = child(layer.name)(y)
        if block.gate:
            y = child("scale")(y, child("se")(y))
        y = child("add")(y, child("downsample")(x) if block.shortcut else x)
        return cast(Tensor, child(block.junction[-1].name)(y))


class ResNet(_Scriptable):
    """A network as a torch module; ``network`` is its description.

    Children are in execution order, as in torchvision, and the module follows timm's protocol:
    ``forward_features``, ``forward_head``, ``num_features``, ``num_classes``, ``get_classifier``,
    ``reset_classifier``, ``feature_info``, ``set_grad_checkpointing``, ``group_matcher``. The
    ``path`` of every leaf is the path of its layer. Created by ``build``; the weights are torch's
    defaults until ``initialise`` or ``load_state_dict``.
    """

    network: Network

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.grad_checkpointing = False
        # Weights are drawn in this order, not in that of the children.
        stem = [(layer.name, leaf(layer, layer.name)) for layer in network.stages[0].layers]
        head = [(layer.name, leaf(layer, layer.name)) for layer in network.head]
        body = [
            (stage.path, nn.Sequential(*(ResidualBlock(block) for block in stage.blocks)))
            for stage in network.stages[1:]
        ]
        for name, module in (*stem, *body, *head):
            self.add_module(name, module)

    @property
    def num_features(self) -> int:
        """Channels of the last map."""
        return self.network.features

    @property
    def num_classes(self) -> int:
        """The length of the logits; 0 without a classifier."""
        return self.network.options.num_classes or 0

    @property
    def feature_info(self) -> FeatureInfo:
        """Channels and strides of the maps of ``features_only``."""
        return FeatureInfo(self.network)

    def stages(self, x: Tensor) -> dict[str, Tensor]:
        """Each stage's map by name: ``stage0`` (after the stem's pool) to ``stage4``.

        ``(N, C, H, W) ->`` maps ``(N, C', H', W')``, for use as a backbone.
        """
        maps = {}
        for stage in self.network.stages:
            names = [stage.path] if stage.blocks else [layer.name for layer in stage.layers]
            for name in names:
                child = self.get_submodule(name)
                if stage.blocks and self.grad_checkpointing and self.training:
                    for block in child.children():
                        x = checkpoint(block, x, use_reentrant=False)
                else:
                    x = child(x)
            maps[stage.name] = x
        return maps

    def forward_features(self, x: Tensor) -> Tensor:
        """The last stage's map, ``(N, C, H, W) -> (N, num_features, H', W')``."""
        return self.stages(x)[self.network.stages[-1].name]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The output of ``forward`` from the last map, or with ``pre_logits`` the pooled features
        ``(N, num_features)``."""
        if pre_logits:
            return cast(Tensor, self.get_submodule("avgpool")(x).flatten(1))
        for layer in self.network.head:
            x = self.get_submodule(layer.name)(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) ->`` logits ``(N, num_classes)``, or the pooled map without a
        classifier."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The fully connected layer; ``nn.Identity`` if there is none."""
        return self.get_submodule("fc") if self.num_classes else nn.Identity()

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier; ``num_classes=0`` removes it, so that the output is the pooled
        features ``(N, num_features)``.

        Raises ``ValueError`` for a ``global_pool`` other than ``avg``, and for a number below 0.
        """
        if global_pool not in (None, "avg"):
            raise InputError(f"global_pool is {global_pool!r}; it must be avg")
        if num_classes:
            self.network = self.network.override(num_classes=num_classes)
            weight = self.get_parameter("conv1.weight")
            for layer in self.network.head[1:]:
                self.add_module(layer.name, leaf(layer, layer.name).to(weight))
        else:
            self.network = self.network.override(num_classes=None)
            self.avgpool = nn.Sequential(self.get_submodule("avgpool"), nn.Flatten(1))
            for name in ("flatten", "fc"):
                self._modules.pop(name, None)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the maps inside blocks in the backward pass, to save memory."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns by which timm groups parameters for layer-wise learning rates."""
        blocks = r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"
        return {"stem": r"^(?:conv|bn)\d|^maxpool", "blocks": blocks}


class FeatureNet(_Scriptable):
    """A ``ResNet`` without its head: ``(N, C, H, W) ->`` the maps of ``out_indices``, in order.

    See ``FeatureInfo`` for the maps. Children have the same names as in ``ResNet``.
    """

    network: Network

    def __init__(
        self, module: "ResNet | FeatureNet", out_indices: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.network = module.network
        self.feature_info = FeatureInfo(module.network, out_indices)
        stem = [layer.name for layer in module.network.stages[0].layers]
        stages = [stage.path for stage in module.network.stages[1:]]
        self._ends: list[str] = self.feature_info.module_name()
        names = [*stem, *stages]
        self._names = names[: max(map(names.index, self._ends)) + 1]
        for name in self._names:
            self.add_module(name, module.get_submodule(name))

    @property
    def out_features(self) -> list[str]:
        """The names of the maps, ``stem`` and ``stage1`` to ``stage4``, as in transformers.

        ``stem`` is the map before the stem's pool; that of transformers' ResNet is after it.
        """
        return [f"stage{index}" if index else "stem" for index in self.feature_info.out_indices]

    @property
    def channels(self) -> list[int]:
        """The channels of the maps."""
        return list(self.feature_info.channels())

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps."""
        maps = {}
        for name in self._names:
            x = self.get_submodule(name)(x)
            maps[name] = x
        return [maps[name] for name in self._ends]

    def forward_with_filtered_kwargs(self, pixel_values: Tensor, **_: Any) -> Any:
        """The maps as transformers' ``BackboneOutput``; other arguments have no effect."""
        outputs = require("transformers.modeling_outputs", "a transformers backbone")
        return outputs.BackboneOutput(feature_maps=tuple(FeatureNet.forward(self, pixel_values)))

    def backbone(self) -> "Backbone":
        """This module, with the same weights, as transformers' models call a backbone."""
        made = Backbone(self, self.feature_info.out_indices)
        made.training = self.training  # not `train`, which would change the children's modes
        return made


class Backbone(FeatureNet):
    """A ``FeatureNet`` whose ``forward`` returns transformers' ``BackboneOutput``.

    ``(N, C, H, W) ->`` an object whose ``feature_maps`` are the maps.
    """

    def forward(self, pixel_values: Tensor, **_: Any) -> Any:  # type: ignore[override]
        """As ``forward_with_filtered_kwargs``."""
        return self.forward_with_filtered_kwargs(pixel_values)


def build(name: str | Network, *, zero_init_last: bool = False, **options: Any) -> ResNet:
    """Build the initialised module of a network, with ``options`` changed, in training mode.

    With ``zero_init_last`` every block starts as its shortcut, see ``initialise``. Raises
    ``ValueError`` for an unknown name or option and for conflicting options.
    """
    module = ResNet(registry.network(name, **options))
    initialise(module, zero_init_last=zero_init_last)
    return module


@torch.no_grad()
def initialise(module: ResNet, *, zero_init_last: bool = False) -> None:
    """Initialise the weights with torch's random generator.

    Convolutions: normal with variance 2 / fan-out (He et al. 2015, arXiv:1502.01852), biases 0.
    Norms: 1 and 0; with ``zero_init_last`` the last norm of each block's main path starts at 0
    (Goyal et al. 2017, arXiv:1706.02677). The fully connected layer and
    convolutions along channels keep torch's default.
    Raises ``ValueError`` for ``zero_init_last`` without norms.
    """
    if zero_init_last and module.network.options.norm == "none":
        raise InputError(
            f"zero_init_last requires norms, and {module.network.name} has none; remove it"
        )
    stem, head = (
        [layer.name for layer in part]
        for part in (module.network.stages[0].layers, module.network.head)
    )
    body = [stage.path for stage in module.network.stages[1:]]
    # The order is fixed, so that a seed gives the same weights as in earlier versions.
    parts = (module.get_submodule(name) for name in (*stem, *head, *body))
    for child in chain.from_iterable(part.modules() for part in parts):
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, mode="fan_out", nonlinearity="relu")
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        elif isinstance(child, nn.BatchNorm2d | nn.GroupNorm | nn.Conv1d | nn.Linear):
            child.reset_parameters()
    if zero_init_last:
        for stage in module.network.stages:
            for block in stage.blocks:
                last = next(la for la in reversed(block.main) if isinstance(la, Norm))
                nn.init.zeros_(module.get_parameter(f"{block.name}.{last.name}.weight"))

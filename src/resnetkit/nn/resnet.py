"""The torch module of a network, derived from its description.

Submodules have the paths of their layers, which for the networks of torchvision are torchvision's
parameter names: ``conv1``, ``layer1.0.conv1``, ``layer1.0.downsample.0``, ``fc``.
"""

# No `from __future__ import annotations`: torch.fx hands the annotations of `forward` on to
# TorchScript, which needs them as types.
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from resnetkit.architecture import registry
from resnetkit.architecture.block import Block
from resnetkit.architecture.layer import Norm
from resnetkit.architecture.network import Network
from resnetkit.errors import InputError
from resnetkit.nn.layers import leaf


class _Scriptable(nn.Module):
    """A module whose ``forward`` follows the description, which TorchScript cannot read.

    ``torch.jit.script`` is handed its trace by ``torch.fx``, the same operations written out.
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

    Every leaf has ``path``, the path of its layer. Made by ``build``; the weights are torch's
    defaults until ``initialise`` or ``load_state_dict``.
    """

    network: Network

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        for layer in (*network.stages[0].layers, *network.head):
            self.add_module(layer.name, leaf(layer, layer.name))
        for stage in network.stages[1:]:
            blocks = (ResidualBlock(block) for block in stage.blocks)
            self.add_module(stage.path, nn.Sequential(*blocks))

    def stages(self, x: Tensor) -> dict[str, Tensor]:
        """Each stage's map by name: ``stage0`` (after the stem's pool) to ``stage4``.

        ``(N, C, H, W) ->`` maps ``(N, C', H', W')``, for use as a backbone.
        """
        maps = {}
        for stage in self.network.stages:
            names = [stage.path] if stage.blocks else [layer.name for layer in stage.layers]
            for name in names:
                x = self.get_submodule(name)(x)
            maps[stage.name] = x
        return maps

    def features(self, x: Tensor) -> Tensor:
        """The last stage's map, ``(N, C, H, W) -> (N, features, H', W')``."""
        return self.stages(x)[self.network.stages[-1].name]

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) ->`` logits ``(N, classes)``, or the pooled map where there is no fc."""
        x = self.features(x)
        for layer in self.network.head:
            x = self.get_submodule(layer.name)(x)
        return x


def build(name: str | Network, *, zero_init_last: bool = False, **options: Any) -> ResNet:
    """The initialised module, in training mode, of a network or a name with ``options`` changed.

    ``zero_init_last`` starts every block as its shortcut, see ``initialise``. Raises
    ``ValueError`` for an unknown name or option and for options that contradict each other.
    """
    module = ResNet(registry.network(name, **options))
    initialise(module, zero_init_last=zero_init_last)
    return module


@torch.no_grad()
def initialise(module: ResNet, *, zero_init_last: bool = False) -> None:
    """Draw new weights from torch's random generator.

    Convolutions: normal with variance 2 / fan-out (He et al. 2015, arXiv:1502.01852), biases 0.
    Norms: 1 and 0; with ``zero_init_last`` the last norm of each block's main path starts at 0
    (Goyal et al. 2017, arXiv:1706.02677). The fully connected layer and
    convolutions along channels keep torch's default.
    Raises ``ValueError`` for ``zero_init_last`` where there are no norms.
    """
    if zero_init_last and module.network.options.norm == "none":
        raise InputError(
            f"zero_init_last starts norms at 0 and {module.network.name} has none; leave it out"
        )
    for child in module.modules():
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

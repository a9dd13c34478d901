"""Fully sharded data parallel training: each process keeps a part of every tensor.

Parameters, gradients and the optimizer's state are divided; a block is whole only while it is
computed (Zhao et al. 2023, arXiv:2304.11277; torch's ``fully_shard``).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.torch_version import TorchVersion

from resnetkit.errors import InputError
from resnetkit.nn.resnet import ResidualBlock, ResNet, build

#: Between CPUs torch 2.6 fails, and 2.7 and 2.8 train to other weights without an error.
OLDEST = "2.9"


def check_version(version: str = torch.__version__) -> None:
    """Raise ``ValueError`` for a torch with which the weights are not those of a whole network."""
    if TorchVersion(version) < OLDEST:
        raise InputError(
            f"fsdp requires torch {OLDEST} or later, and this is {version}; leave fsdp out, or "
            "upgrade torch",
            field="fsdp",
        )


def shard(module: nn.Module, group: dist.ProcessGroup | None = None) -> None:
    """Divide the parameters of ``module`` over the processes of ``group``, block by block.

    Parameters become ``DTensor``; an optimizer must be created afterwards.
    """
    # It cannot divide weights that are channels last.
    module.to(memory_format=torch.contiguous_format)
    device = next(module.parameters()).device.type
    every = group or dist.group.WORLD
    assert every is not None
    mesh = DeviceMesh.from_group(every, device)
    for child in module.modules():
        if isinstance(child, ResidualBlock):
            fully_shard(child, mesh=mesh)
    # By default the stem and the classifier would stay whole until the backward pass, and so after
    # validation.
    fully_shard(module, mesh=mesh, reshard_after_forward=True)


def is_sharded(module: nn.Module) -> bool:
    """Whether the parameters are divided."""
    return isinstance(module, FSDPModule)


def whole(value: Tensor) -> Tensor:
    """The whole tensor of a divided one; all processes must call it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def own(value: Tensor) -> Tensor:
    """This process's part of a divided tensor, in the same memory."""
    return value.to_local() if isinstance(value, DTensor) else value


def is_divided(value: Tensor) -> bool:
    """Whether processes have parts of it."""
    return isinstance(value, DTensor)


def divided_as(value: Tensor, parameter: Tensor) -> Tensor:
    """``value``, a whole tensor, divided as ``parameter`` is; all processes must call it."""
    assert isinstance(parameter, DTensor)
    value = value.to(parameter.device)
    return distribute_tensor(value, parameter.device_mesh, parameter.placements)


def gathered(arrays: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """The whole tensors, in processes that ``keep`` them; all must call it."""
    found = {}
    for name, value in arrays.items():
        tensor = whole(value)
        if keep:
            found[name] = tensor
    return found


def whole_module(module: ResNet, *, keep: bool) -> ResNet | None:
    """``module`` with whole parameters, in processes that ``keep`` it; all must call it."""
    if not is_sharded(module):
        return module if keep else None
    arrays = gathered(module.state_dict(), keep=keep)
    if not keep:
        return None
    with torch.device("meta"):
        found = build(module.network)
    found.load_state_dict(arrays, assign=True)
    return found

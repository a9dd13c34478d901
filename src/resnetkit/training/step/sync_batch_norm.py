"""Batch norms synchronized over all processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_AXES = (0, 2, 3)


def synchronise(module: nn.Module, group: dist.ProcessGroup | None = None) -> None:
    """Synchronize every batch norm of ``module`` over the processes of ``group``.

    Names of parameters and buffers, and evaluation, are unchanged. On GPUs it becomes torch's
    ``SyncBatchNorm``, which does not support CPUs; on CPUs ``WholeBatchNorm``.
    """
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            on_cpu = child.weight.device.type == "cpu"
            # The module keeps its path, parameters and hooks; only its computation changes.
            kind: type = WholeBatchNorm if on_cpu else nn.SyncBatchNorm
            child.__class__ = kind
            object.__setattr__(child, "process_group", group)


class WholeBatchNorm(nn.BatchNorm2d):
    """A batch norm over the images of all processes in training; some may have none."""

    process_group: dist.ProcessGroup | None

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        normalised: Tensor
        normalised, mean, variance, count = _Normalise.apply(
            input, self.weight, self.bias, self.eps, self.process_group
        )
        with torch.no_grad():
            assert self.num_batches_tracked is not None
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.momentum is not None
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            # The unbiased variance, as in torch.
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return normalised


class _Normalise(torch.autograd.Function):
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` over all processes' images.

    With ``n`` values per channel in all, ``y = (x - mean) / sqrt(variance + eps)`` and sums over
    all processes: ``dx = weight / sqrt(variance + eps) * (dz - sum(dz) / n - y * sum(dz * y) / n)``
    (Ioffe & Szegedy 2015, arXiv:1502.03167). The gradients of weight and bias are this process's
    share, as for all parameters.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        group: dist.ProcessGroup | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        channels = x.shape[1]
        mine = x.new_zeros(2 * channels + 1, dtype=torch.float64)
        if x.numel():
            # Sums of squares would cancel; means and variances per process do not.
            variance, mean = torch.var_mean(_wide(x), _AXES, correction=0)
            mine[:channels], mine[channels:-1] = mean, variance
            mine[-1] = x.numel() // channels
        found = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
        dist.all_gather(found, mine, group=group)
        every = torch.stack(found)
        counts, means = every[:, -1:], every[:, :channels]
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        spread = every[:, channels:-1] + (means - mean) ** 2
        variance = ((counts * spread).sum(0) / count).to(weight.dtype)
        mean = mean.to(weight.dtype)
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps, ctx.group = eps, group
        ctx.mark_non_differentiable(mean, variance, count)
        normalised = F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)
        return normalised, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: Tensor, *_: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight, mean, variance, count = ctx.saved_tensors
        scale = torch.rsqrt(variance + ctx.eps)
        shape = (1, -1, 1, 1)
        given = _wide(gradient)
        y = (_wide(x) - mean.view(shape)) * scale.view(shape)
        to_bias, to_weight = given.sum(_AXES), (given * y).sum(_AXES)
        sums = torch.stack([to_bias, to_weight])
        dist.all_reduce(sums, group=ctx.group)
        sums = sums / count.to(sums.dtype)
        inner = given - sums[0].view(shape) - y * sums[1].view(shape)
        return inner.mul_((weight * scale).view(shape)).to(x.dtype), to_weight, to_bias, None, None


def _wide(x: Tensor) -> Tensor:
    """At least float32, for exact sums over many pixels."""
    return x if x.dtype == torch.float64 else x.float()

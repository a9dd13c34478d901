"""Running statistics of batch norms as training leaves them."""

from __future__ import annotations

from torch import nn


def draw_statistics(module: nn.Module) -> None:
    """Draw means and variances by torch's generator; fresh ones, 0 and 1, hide mistakes."""
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.1, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)

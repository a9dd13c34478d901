"""Compiles the training step with torch.compile."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from resnetkit.errors import InputError

#: From images ``(N, C, H, W)`` to logits ``(N, classes)``.
Forward = Callable[[Tensor], Tensor]
#: Maximum number of input shapes in a run; above its own limit torch runs uncompiled.
_SHAPES = 64


def compiled(module: nn.Module) -> Forward:
    """Compile ``module``, forward and backward, with the same parameters.

    Each shape is compiled separately, so that results do not depend on earlier shapes, and a
    resumed run computes the same. Raises ``ValueError`` without a C++ compiler.
    """
    check_compiler()
    torch._dynamo.config.recompile_limit = max(_SHAPES, torch._dynamo.config.recompile_limit)
    return cast(Forward, torch.compile(module, dynamic=False))


def check_compiler() -> None:
    """Raise ``ValueError`` if torch would not find a C++ compiler."""
    usual = ("cl",) if sys.platform == "win32" else ("g++", "clang++", "c++")
    wanted = (os.environ["CXX"],) if os.environ.get("CXX") else usual
    if not any(shutil.which(name) for name in wanted):
        raise InputError(
            f"compile requires a C++ compiler, but there is no {' or '.join(wanted)}; "
            "install one (g++), name it in CXX, or leave compile out",
            field="compile",
        )

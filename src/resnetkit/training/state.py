"""What a run needs to go on: weights and momentum after the last finished epoch, no pickle."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from resnetkit.errors import InputError
from resnetkit.files import atomic

#: The file in the folder of a run that is not finished.
FILE = "state.safetensors"
_MOMENTUM = "momentum_buffer"


def save_state(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, epochs: int
) -> None:
    """Write the state after ``epochs`` epochs, wholly or not at all."""
    arrays = {f"model.{name}": value for name, value in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        momentum = optimizer.state[parameter].get(_MOMENTUM)
        if momentum is not None:
            arrays[f"momentum.{name}"] = momentum
    with atomic(folder / FILE) as temporary:
        safetensors.torch.save_file(
            {name: value.detach().cpu().contiguous() for name, value in arrays.items()},
            temporary,
            {"epochs": str(epochs)},
        )


def load_state(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put a state back where it was; returns the number of finished epochs, 0 without a state.

    Raises ``ValueError`` for a file that is damaged or belongs to another network.
    """
    path = folder / FILE
    if not path.exists():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            epochs = int((file.metadata() or {})["epochs"])
        model = {
            name.removeprefix("model."): value
            for name, value in arrays.items()
            if name.startswith("model.")
        }
        module.load_state_dict(model)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is damaged or of another run ({error}); train anew") from None
    for name, parameter in module.named_parameters():
        momentum = arrays.get(f"momentum.{name}")
        if momentum is not None:
            # Into the layout of the parameter, as the optimizer would have made it.
            buffer = torch.empty_like(parameter, requires_grad=False)
            optimizer.state[parameter][_MOMENTUM] = buffer.copy_(momentum)
    return epochs

"""Training checkpoints: tensors and a JSON document to resume from.

``state.safetensors`` is the last, ``state-before.safetensors`` the one before. Each contains its
digest to detect damage; nothing in them is executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from resnetkit.architecture.network import Network
from resnetkit.bundle.bundle import digest_of
from resnetkit.checkpoints.writing import array
from resnetkit.errors import InputError, check, listed, mapping, number, optional, parsed, whole
from resnetkit.files import atomic
from resnetkit.training.epoch_log import epoch_log_of
from resnetkit.training.fsdp import divided_as, gathered, is_divided
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.run_folder import STATES

VERSION = 1
_DOCUMENT, _DIGEST = "resnetkit.state", "resnetkit.sha256"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """Tensors by name, and the progress of the run as JSON types."""

    arrays: Mapping[str, Tensor]
    document: Mapping[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under ``prefix.``, with the prefix removed."""
        start = f"{prefix}."
        return {n.removeprefix(start): v for n, v in self.arrays.items() if n.startswith(start)}


def save_state(folder: Path, state: State) -> None:
    """Write ``state``; the last one becomes the one before.

    If killed at any time, one of the two is intact. Raises ``ValueError`` if writing fails.
    """
    arrays = {name: value.detach().cpu().contiguous() for name, value in state.arrays.items()}
    document = json.dumps({"version": VERSION, **state.document})
    metadata = {_DOCUMENT: document, _DIGEST: _digest(document, arrays)}
    last, before = (folder / name for name in STATES)
    with atomic(last) as temporary:
        try:
            safetensors.torch.save_file(arrays, temporary, metadata)
        except SafetensorError as error:
            raise InputError(f"cannot write {last}: {error}") from None
        if last.exists():
            last.replace(before)


def load_state(folder: Path, warn: Callable[[str], None]) -> State | None:
    """The last intact state, or None if none was written yet.

    ``warn`` is called for damaged ones. Raises ``ValueError`` if all are damaged.
    """
    damaged: dict[Path, str] = {}
    for path in (folder / name for name in STATES):
        if not path.exists():
            continue
        try:
            state = _read(path)
        except InputError as error:
            damaged[path] = str(error)
            continue
        for other, text in damaged.items():
            warn(f"{text}; resuming from the one before, {path.name}")
            # Else the next state would replace the good one with this one.
            other.unlink()
        return state
    for text in damaged.values():
        raise InputError(f"{text}, and there is no other; train again")
    return None


def remove_states(folder: Path) -> None:
    """Remove both, the older first."""
    for name in reversed(STATES):
        (folder / name).unlink(missing_ok=True)


def check_network(document: Mapping[str, Any], recipe: Recipe, folder: Path) -> None:
    """Raise ``ValueError`` for the state of another network than the recipe's."""
    if Network.from_dict(document["network"]) != recipe.network:
        raise InputError(
            f"the state in {folder} is of another network, {document['network'].get('name')}, and "
            f"its recipe trains {recipe.network.name}; train again"
        )


def differences(document: Mapping[str, Any], recipe: Recipe, processes: int) -> Iterator[str]:
    """Differences from when the state was saved, and their effect on the weights."""
    threads = torch.get_num_threads()
    if document["threads"] != threads:
        yield (
            f"the run had {document['threads']} CPU threads and has {threads} now; "
            "the weights may differ in their last bits"
        )
    before = document.get("processes", 1)
    if before != processes:
        seen, batch = "the weights may differ in their last bits", recipe.batch_size
        if not recipe.model.sync_bn:
            seen = f"norms see {batch // processes} images at a time instead of {batch // before}"
        yield f"the run had {before} process(es) and has {processes} now; {seen}"


_RULES = {
    "network": mapping(),
    **dict.fromkeys(("batch", "skipped"), whole(0, 1 << 40)),
    "score": mapping(),
    "seconds": number(0, 1e30),
    "waited": optional(number(0, 1e30)),
    "rows": listed(mapping(), 1_000_000),
    "threads": whole(1, 1 << 20),
    "processes": optional(whole(1, 1 << 20)),
}
_SCORE = {"total": number(0, 1e30), **dict.fromkeys(("right", "images"), whole(0, 1 << 40))}


def _read(path: Path) -> State:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        document = parsed(metadata[_DOCUMENT], "its document")
        version = document["version"]
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error})") from None
    if metadata.get(_DIGEST) != _digest(metadata[_DOCUMENT], arrays):
        raise InputError(f"{path} is damaged (its digest differs)")
    if version != VERSION:
        raise InputError(f"{path} has version {version}; this resnetkit reads {VERSION}")
    check(document, _RULES, f"{path} is damaged: its")
    check(document["score"], _SCORE, f"{path} is damaged: its score's")
    for row in document["rows"]:
        epoch_log_of(row)
    return State(arrays=arrays, document=document)


def _digest(document: str, arrays: Mapping[str, Tensor]) -> str:
    return digest_of(document, {name: array(value) for name, value in arrays.items()})


def arrays_of(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None,
    *,
    keep: bool,
) -> dict[str, Tensor]:
    """The tensors of a state, in processes that ``keep`` them; all must call it."""
    arrays = {
        **{f"model.{name}": value for name, value in module.state_dict().items()},
        **{f"optimizer.{n}": value for n, value in optimizer_arrays(module, optimizer).items()},
    }
    if average is not None:
        arrays |= {f"average.{name}": value for name, value in average.state_dict().items()}
    return gathered(arrays, keep=keep)


def optimizer_arrays(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state of each parameter, as ``KEY.PARAMETER``."""
    return {
        f"{key}.{name}": value
        for name, parameter in module.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def put_optimizer(
    module: nn.Module, optimizer: torch.optim.Optimizer, arrays: Mapping[str, Tensor]
) -> None:
    """Restore ``optimizer_arrays``. Raises ``ValueError`` for other parameters."""
    parameters = dict(module.named_parameters())
    # A fused optimizer counts steps on the parameters' device, others on the CPU.
    fused = any(group.get("fused") for group in optimizer.param_groups)
    for place, value in arrays.items():
        key, _, name = place.partition(".")
        parameter = parameters.get(name)
        if parameter is None or value.shape not in (parameter.shape, torch.Size([])):
            raise InputError(f"the optimizer's {place} belongs to another network")
        if value.shape == parameter.shape:
            value = _like(parameter, value)  # noqa: PLW2901
        elif fused:
            value = value.to(parameter.device)  # noqa: PLW2901
        optimizer.state[parameter][key] = value


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """``value`` in the parameter's memory format, as the optimizer creates it, or its division."""
    if is_divided(parameter):
        return divided_as(value, parameter)
    return torch.empty_like(parameter, requires_grad=False).copy_(value)

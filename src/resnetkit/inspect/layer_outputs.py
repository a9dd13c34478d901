"""Outputs of layers for a batch of pixels: by the engine's graph, or by torch's hooks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from resnetkit.bundle.bundle import Bundle
from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import CHOICES, Engine, EngineName, Output, Pixels
from resnetkit.inference.engines.selection import PACKAGES, chosen, open_engine
from resnetkit.inspect.models import is_module

Array = npt.NDArray[np.float32]
#: Graphs kept for a bundle, the latest ones: each has a copy of the weights.
KEPT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerOutputs:
    """What computes the outputs of ``layers``. Called with pixels ``(N, size, size, C)``, it
    returns the arrays ``(N, C, H, W)`` or ``(N, C)`` by path, and the network's output as
    ``logits`` or ``embeddings``."""

    engine: str
    output: Output
    run: Callable[[Pixels], dict[str, Array]]

    def __call__(self, pixels: Pixels) -> dict[str, Array]:
        return self.run(pixels)


_OPENED: WeakKeyDictionary[Bundle, dict[tuple[Any, ...], LayerOutputs]] = WeakKeyDictionary()
_opening = Lock()


def engine_for(model: object, engine: EngineName) -> EngineName:
    """The engine for what was given: a torch module is run by torch unless another is given.

    Raises ``ValueError`` for an unknown engine.
    """
    if engine not in CHOICES:
        raise InputError(
            f"the engine is {engine!r}; it must be one of {', '.join(CHOICES)}", field="engine"
        )
    if engine != "auto":
        return engine
    return "torch" if is_module(model) else chosen()[0]


def open_outputs(bundle: Bundle, layers: Sequence[str], engine: EngineName) -> LayerOutputs:
    """Open ``engine`` for the outputs of ``layers``, paths of the network's layers.

    The latest ones are kept with the bundle. Raises ``ValueError`` as ``open_engine`` does.
    """
    wanted = tuple(dict.fromkeys(layers))
    key = (engine, wanted)
    with _opening:
        kept = _OPENED.setdefault(bundle, {})
        if key not in kept:
            opened = _open(bundle, wanted, engine)
            while len(kept) >= KEPT:
                del kept[next(iter(kept))]
            kept[key] = opened
        return kept[key]


def _open(bundle: Bundle, layers: tuple[str, ...], engine: EngineName) -> LayerOutputs:
    output: Output = "logits" if bundle.network.options.num_classes else "embeddings"
    if PACKAGES[engine] == "torch":
        return LayerOutputs(engine="torch", output=output, run=_by_torch(bundle, layers, output))
    opened: Engine = open_engine(bundle, engine, output, intermediate=layers)
    return LayerOutputs(engine=engine, output=output, run=opened.outputs)


def _by_torch(
    bundle: Bundle, layers: tuple[str, ...], output: Output
) -> Callable[[Pixels], dict[str, Array]]:
    module = bundle.module().float()
    torch = sys.modules["torch"]
    alone = Lock()  # another thread's hooks would see this one's values
    from resnetkit.data.decoding.tensors import normalise

    def run(pixels: Pixels) -> dict[str, Array]:
        found: dict[str, Array] = {}

        def keep(path: str) -> Callable[[Any, Any, Any], None]:
            def hook(_module: Any, _inputs: Any, result: Any) -> None:
                # A copy: the next layers may write into it (ReLU, addition).
                found[path] = result.detach().numpy().copy()

            return hook

        with alone, torch.inference_mode():
            hooks = [module.get_submodule(p).register_forward_hook(keep(p)) for p in layers]
            try:
                given = normalise(torch.from_numpy(pixels).movedim(-1, -3), bundle.preprocess)
                last = module.forward_features(given)
                rows = last.mean((2, 3)) if output == "embeddings" else module.forward_head(last)
            finally:
                for handle in hooks:
                    handle.remove()
        return {**found, output: rows.numpy()}

    return run

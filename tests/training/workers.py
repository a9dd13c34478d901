"""What each process that torchrun starts does in `test_data_parallel.py`: one run after another.

Each run is the command line's own `main` in a fork of this process, which has imported everything,
with what it prints kept in a file; what a test wants to see or to go wrong is put around the real
parts.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib.pyplot  # noqa: F401 - all is imported before the forks
import safetensors.torch

from resnetkit.cli.main import main
from resnetkit.data.datasets import readability
from resnetkit.report import plots  # noqa: F401
from resnetkit.training import run as training  # noqa: F401
from resnetkit.training import trainer
from resnetkit.training.data.data_loader import Batch

RANK = int(os.environ.get("RANK", "0"))
HARD = resource.getrlimit(resource.RLIMIT_FSIZE)[1]


@contextlib.contextmanager
def seen(log: list[Any]) -> Iterator[None]:
    """Keep the names of the images of each step that this process is given."""
    real = trainer.Trainer.step

    def step(self: trainer.Trainer, epoch: int, batch: Batch) -> int:
        log.append([epoch, self.batch, [example.name for example in batch.examples]])
        return real(self, epoch, batch)

    with patch.object(trainer.Trainer, "step", step):
        yield


@contextlib.contextmanager
def first_gradients(path: Path) -> Iterator[None]:
    """Write the gradients of the first step, before the next one replaces them."""
    real = trainer.train_step

    def step(module: Any, *rest: Any, **more: Any) -> Any:
        logits = real(module, *rest, **more)
        if RANK == 0 and not path.exists():
            named = module.named_parameters()
            found = {n.removeprefix("module."): p.grad.contiguous() for n, p in named}
            safetensors.torch.save_file(found, path)
        return logits

    with patch.object(trainer, "train_step", step):
        yield


@contextlib.contextmanager
def at_step(number: int, rank: int, do: Callable[[Any], Any]) -> Iterator[None]:
    """In one process, hand the pixels of one step through ``do``."""
    real, calls = trainer.train_step, [0]

    def step(module: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        calls[0] += 1
        if (calls[0], RANK) == (number, rank):
            inputs = do(inputs)
        return real(module, inputs, *rest, **more)

    with patch.object(trainer, "train_step", step):
        yield


@contextlib.contextmanager
def one_step_in_float64() -> Iterator[None]:
    """In float64 rounding turns no ReLU, so that gradients can be compared; then it is over."""
    made, put, real = trainer.module_of, trainer.placed, trainer.train_step

    def step(*given: Any, **more: Any) -> Any:
        real(*given, **more)
        raise KeyboardInterrupt

    with (
        patch.object(trainer, "module_of", lambda *given: made(*given).double()),
        patch.object(trainer, "placed", lambda *given: put(*given).double()),
        patch.object(trainer, "train_step", step),
    ):
        yield


def infinite(inputs: Any) -> Any:
    return inputs * float("inf")


def terminated(inputs: Any) -> Any:
    os.kill(os.getpid(), signal.SIGTERM)
    return inputs


def full_disk(inputs: Any) -> Any:
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, HARD))
    return inputs


@contextlib.contextmanager
def terminated_late(number: int, rank: int) -> Iterator[None]:
    """In one process, send SIGTERM right after all processes were asked for one."""
    real, calls = trainer.Trainer._agree, [0]

    def agree(self: trainer.Trainer, **more: Any) -> bool:
        due = real(self, **more)
        calls[0] += 1
        if (calls[0], RANK) == (number, rank):
            os.kill(os.getpid(), signal.SIGTERM)
        return due

    with patch.object(trainer.Trainer, "_agree", agree):
        yield


#: By the name in the list of runs.
AROUND: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "nothing": contextlib.nullcontext,
    "float64": one_step_in_float64,
    "nan": lambda: at_step(2, 1, infinite),
    "terminated": lambda: at_step(3, 1, terminated),
    "late": lambda: terminated_late(3, 1),
    "full": lambda: at_step(2, 0, full_disk),
    "unread": lambda: patch.object(readability, "DECODED", 5),
}


def run(words: list[str], around: str, answer: Path) -> None:
    log: list[Any] = []
    out, err = io.StringIO(), io.StringIO()
    printed = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    gradients = answer.with_suffix(".gradients")
    kept = first_gradients(gradients) if around == "float64" else contextlib.nullcontext()
    with seen(log), kept, AROUND[around](), printed[0], printed[1]:
        try:
            code = main(words)
        except SystemExit as ended:
            code = ended.code
        except BaseException:
            traceback.print_exc()
            code = 99
    resource.setrlimit(resource.RLIMIT_FSIZE, (HARD, HARD))
    found = {"code": code, "out": out.getvalue(), "err": err.getvalue(), "seen": log}
    answer.write_text(json.dumps(found))


if __name__ == "__main__":
    orders, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    for name, words, around in orders:
        child = os.fork()
        if child == 0:
            run(words, around, folder / f"{name}-{RANK}.json")
            os._exit(0)
        os.waitpid(child, 0)

"""The context of a run, besides its recipe and data."""

from __future__ import annotations

from dataclasses import dataclass

from resnetkit.training.callbacks import Callback, RunOptions
from resnetkit.training.distributed import ALONE, Processes
from resnetkit.training.signals import Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Callbacks, options, the signal that ends the run, and the processes that share it."""

    callback: Callback
    run_options: RunOptions
    stop: Stop
    processes: Processes = ALONE

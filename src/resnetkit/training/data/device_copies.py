"""Copies batches to the training device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from resnetkit.inference.engines.torch import numbered


class DeviceCopies:
    """Copies to ``device``; to a GPU from pinned memory and on a stream of its own.

    So a batch is copied while the step before it is computed. ``queued`` is entered by the thread
    that makes the batches, ``arrived`` is called by the one that uses them. Both threads would
    otherwise have different ideas of ``cuda``, which is the first GPU in a new thread.
    """

    def __init__(self, device: str) -> None:
        self.device = numbered(device)
        self._stream: torch.cuda.Stream | None = None
        if self.device.type == "cuda":
            self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    @contextmanager
    def queued(self) -> Iterator[None]:
        """Within it, a GPU's work is queued on this stream."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield

    def copied(self, tensor: Tensor) -> Tensor:
        """``tensor`` on the device; for a GPU it may still be on its way."""
        if self._stream is None:
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def mark(self) -> torch.cuda.Event | None:
        """A point that is reached when all queued so far is done; None if it already is."""
        return None if self._stream is None else self._stream.record_event()

    def arrived(self, mark: torch.cuda.Event | None, *tensors: Tensor) -> None:
        """Let later work on ``tensors`` wait for ``mark``."""
        if mark is None:
            return
        current = torch.cuda.current_stream(self.device)
        current.wait_event(mark)
        for tensor in tensors:
            # Its memory is not reused before that work is done.
            tensor.record_stream(current)

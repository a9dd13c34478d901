"""Dynamic batching: single images that arrive together are computed together."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

from resnetkit.inference.engines.engine import Engine

Row = npt.NDArray[np.float32]
_Job = tuple[npt.NDArray[np.uint8], "Future[Row]"]


class BusyError(Exception):
    """As many images are waiting as may."""


class Batcher:
    """Hands the images of many callers to one engine.

    A batch is begun with the first image that waits and takes up to ``most`` of those that come
    within ``patience`` seconds; with 0 seconds only what waits already. No more than ``waiting``
    images wait; a further one is refused with ``BusyError``.
    """

    def __init__(
        self, engine: Engine, *, most: int = 8, patience: float = 0.0, waiting: int = 256
    ) -> None:
        self._engine, self._most, self._patience = engine, most, patience
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=waiting)
        self._closing = threading.Lock()
        self._closed = False
        self.batches = 0
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    def __enter__(self) -> Batcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def waiting(self) -> int:
        """How many images wait for their batch."""
        return self._jobs.qsize()

    def submit(self, pixels: npt.NDArray[np.uint8]) -> Future[Row]:
        """The row of one image ``(H, W, C)``, later. Raises ``BusyError``."""
        future: Future[Row] = Future()
        with self._closing:
            if self._closed:
                raise BusyError("the server is shutting down")
            try:
                self._jobs.put_nowait((pixels, future))
            except queue.Full:
                raise BusyError(f"{self._jobs.maxsize} images are waiting already") from None
        return future

    def close(self) -> None:
        """Answer what waits, and stop."""
        with self._closing:
            closed, self._closed = self._closed, True
        if not closed:
            self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            batch, last = self._gathered(first)
            self._answer(batch)
            if last:
                return

    def _gathered(self, first: _Job) -> tuple[list[_Job], bool]:
        """The batch that ``first`` begins, and whether nothing will come after it."""
        batch, end = [first], time.monotonic() + self._patience
        while len(batch) < self._most:
            left = end - time.monotonic()
            try:
                job = self._jobs.get(timeout=left) if left > 0 else self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return batch, True
            batch.append(job)
        return batch, False

    def _answer(self, batch: list[_Job]) -> None:
        wanted = [job for job in batch if job[1].set_running_or_notify_cancel()]
        if not wanted:
            return
        self.batches += 1
        try:
            rows = self._engine.answer(np.stack([pixels for pixels, _ in wanted]))
            if len(rows) != len(wanted):
                raise RuntimeError(f"{len(rows)} answers came for {len(wanted)} images")
        except Exception as error:
            for _, future in wanted:
                future.set_exception(error)
            return
        for (_, future), row in zip(wanted, rows, strict=True):
            future.set_result(row)

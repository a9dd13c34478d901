"""Dynamic batching: images of concurrent requests are computed together."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

from resnetkit.inference.engines.engine import Engine

Logits = npt.NDArray[np.float32]
_Job = tuple[npt.NDArray[np.uint8], "Future[Logits]"]


class BusyError(Exception):
    """The queue is full, or closed."""


class Batcher:
    """Passes the images of many callers to one engine.

    A batch starts with the first waiting image and has up to ``max_batch_size`` images that arrive
    within ``max_queue_delay`` seconds; with 0 seconds only those already waiting. At most
    ``max_queue_size`` images wait; another one raises ``BusyError``.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_batch_size: int = 8,
        max_queue_delay: float = 0.0,
        max_queue_size: int = 256,
    ) -> None:
        self._engine = engine
        self._max_batch_size, self._max_queue_delay = max_batch_size, max_queue_delay
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=max_queue_size)
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
    def queue_size(self) -> int:
        """Number of images waiting for a batch."""
        return self._jobs.qsize()

    def submit(self, pixels: npt.NDArray[np.uint8]) -> Future[Logits]:
        """A future with the logits of one image ``(H, W, C)``. Raises ``BusyError``."""
        future: Future[Logits] = Future()
        with self._closing:
            if self._closed:
                raise BusyError("the server is shutting down")
            try:
                self._jobs.put_nowait((pixels, future))
            except queue.Full:
                raise BusyError(f"{self._jobs.maxsize} images are already waiting") from None
        return future

    def close(self) -> None:
        """Answer the waiting images, then stop."""
        with self._closing:
            closed, self._closed = self._closed, True
        if not closed:
            self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            batch, last = self._gather(first)
            self._run(batch)
            if last:
                return

    def _gather(self, first: _Job) -> tuple[list[_Job], bool]:
        """The batch that starts with ``first``, and whether it is the last."""
        batch, end = [first], time.monotonic() + self._max_queue_delay
        while len(batch) < self._max_batch_size:
            left = end - time.monotonic()
            try:
                job = self._jobs.get(timeout=left) if left > 0 else self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return batch, True
            batch.append(job)
        return batch, False

    def _run(self, batch: list[_Job]) -> None:
        wanted = [job for job in batch if job[1].set_running_or_notify_cancel()]
        if not wanted:
            return
        self.batches += 1
        try:
            logits = self._engine.answer(np.stack([pixels for pixels, _ in wanted]))
            if len(logits) != len(wanted):
                raise RuntimeError(f"the engine gave {len(logits)} rows for {len(wanted)} images")
        except Exception as error:
            for _, future in wanted:
                future.set_exception(error)
            return
        for (_, future), one in zip(wanted, logits, strict=True):
            future.set_result(one)

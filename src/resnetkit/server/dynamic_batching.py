"""Dynamic batching: images of concurrent requests are computed together or concurrently."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from resnetkit.inference.engines.engine import Engine, Pixels, Rows

Logits = npt.NDArray[np.float32]
_Job = tuple[npt.NDArray[np.uint8], "Future[Logits]"]


class BusyError(Exception):
    """The queue is full, or closed."""


class Batcher:
    """Passes the images of many callers to one engine.

    A batch starts with the first waiting image and has up to ``max_batch_size`` images that arrive
    within ``max_queue_delay`` seconds; with 0 seconds only those already waiting. If it is the only
    batch, the engine computes it with all threads; otherwise ``engine.streams`` batches are
    computed concurrently until no image waits. At most ``max_queue_size`` images wait; another one
    raises ``BusyError``.
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
        last = False
        while not last and (first := self._jobs.get()) is not None:
            batch, last = self._gather(first, time.monotonic() + self._max_queue_delay)
            if last or self._jobs.empty():
                if wanted := _wanted(batch):
                    self.batches += 1
                    self._compute(wanted)
            else:
                last = self._stream(batch)

    def _gather(self, first: _Job, end: float = 0.0) -> tuple[list[_Job], bool]:
        """The batch that starts with ``first``, and whether it is the last."""
        batch = [first]
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

    def _compute(self, batch: Sequence[_Job]) -> None:
        """Compute one batch with all threads."""
        try:
            _answer(batch, self._engine.answer(_stacked(batch)))
        except Exception as error:
            for _, future in batch:
                future.set_exception(error)

    def _stream(self, batch: list[_Job]) -> bool:
        """Compute batches concurrently, from this one until no image waits; True if it was the
        last."""
        sent: deque[list[_Job]] = deque()
        last = False

        def batches() -> Iterator[Pixels]:
            nonlocal last
            waiting: list[_Job] = batch
            while waiting:
                if wanted := _wanted(waiting):
                    self.batches += 1
                    sent.append(wanted)
                    yield _stacked(wanted)
                waiting = []
                with suppress(queue.Empty):
                    if last or (first := self._jobs.get_nowait()) is None:
                        last = True
                    else:
                        waiting, last = self._gather(first)

        try:
            for rows in self._engine.infer_batches(batches()):
                _answer(sent[0], rows)
                sent.popleft()
        except Exception:  # of one of them
            for wanted in sent:
                self._compute(wanted)
        return last


def _wanted(batch: Sequence[_Job]) -> list[_Job]:
    """The jobs whose caller still waits."""
    return [job for job in batch if job[1].set_running_or_notify_cancel()]


def _stacked(batch: Sequence[_Job]) -> Pixels:
    return np.stack([pixels for pixels, _ in batch])


def _answer(batch: Sequence[_Job], rows: Rows) -> None:
    if len(rows) != len(batch):
        raise RuntimeError(f"the engine gave {len(rows)} rows for {len(batch)} images")
    for (_, future), row in zip(batch, rows, strict=True):
        future.set_result(row)

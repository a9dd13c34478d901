"""Dynamic batching: images of concurrent requests are computed together or concurrently."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from resnetkit.inference.engines.engine import Engine, Pixels, Rows

Logits = npt.NDArray[np.float32]
#: Seconds that an image waits, seconds of a batch, and its number of images.
Quantity = Literal["queue", "compute", "batch"]


@dataclass(slots=True, kw_only=True)
class _Job:
    pixels: npt.NDArray[np.uint8]
    future: Future[Logits] = field(default_factory=Future)
    submitted: float = field(default_factory=time.perf_counter)


class BusyError(Exception):
    """The queue is full, or closed."""


class Batcher:
    """Passes the images of many callers to one engine.

    A batch starts with the first waiting image and has up to ``max_batch_size`` images that arrive
    within ``max_queue_delay`` seconds; with 0 seconds only those already waiting. If it is the only
    batch, the engine computes it with all threads; otherwise ``engine.streams`` batches are
    computed concurrently until no image waits. At most ``max_queue_size`` images wait; another one
    raises ``BusyError``. ``observe`` is called with measurements.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_batch_size: int = 8,
        max_queue_delay: float = 0.0,
        max_queue_size: int = 256,
        observe: Callable[[Quantity, float], None] = lambda *_: None,
    ) -> None:
        self._engine, self._observe = engine, observe
        self._max_batch_size, self._max_queue_delay = max_batch_size, max_queue_delay
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=max_queue_size)
        self._closing = threading.Lock()
        self._closed = False
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
        job = _Job(pixels=pixels)
        with self._closing:
            if self._closed:
                raise BusyError("the server is shutting down")
            try:
                self._jobs.put_nowait(job)
            except queue.Full:
                raise BusyError(f"{self._jobs.maxsize} images are already waiting") from None
        return job.future

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
                if wanted := self._wanted(batch):
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
        start = time.perf_counter()
        try:
            _answer(batch, self._engine.answer(_stacked(batch)))
        except Exception as error:
            for job in batch:
                job.future.set_exception(error)
        self._observe("compute", time.perf_counter() - start)

    def _stream(self, batch: list[_Job]) -> bool:
        """Compute batches concurrently, from this one until no image waits; True if it was the
        last."""
        sent: deque[tuple[list[_Job], float]] = deque()
        last = False

        def batches() -> Iterator[Pixels]:
            nonlocal last
            waiting: list[_Job] = batch
            while waiting:
                if wanted := self._wanted(waiting):
                    sent.append((wanted, time.perf_counter()))
                    yield _stacked(wanted)
                waiting = []
                with suppress(queue.Empty):
                    if last or (first := self._jobs.get_nowait()) is None:
                        last = True
                    else:
                        waiting, last = self._gather(first)

        try:
            for rows in self._engine.infer_batches(batches()):
                jobs, start = sent[0]
                _answer(jobs, rows)
                sent.popleft()
                self._observe("compute", time.perf_counter() - start)
        except Exception:  # of one of them
            for jobs, _ in sent:
                self._compute(jobs)
        return last

    def _wanted(self, batch: Sequence[_Job]) -> list[_Job]:
        """The jobs of a batch that starts whose caller still waits."""
        wanted = [job for job in batch if job.future.set_running_or_notify_cancel()]
        if wanted:
            now = time.perf_counter()
            for job in wanted:
                self._observe("queue", now - job.submitted)
            self._observe("batch", len(wanted))
        return wanted


def _stacked(batch: Sequence[_Job]) -> Pixels:
    return np.stack([job.pixels for job in batch])


def _answer(batch: Sequence[_Job], rows: Rows) -> None:
    if len(rows) != len(batch):
        raise RuntimeError(f"the engine gave {len(rows)} rows for {len(batch)} images")
    for job, row in zip(batch, rows, strict=True):
        job.future.set_result(row)

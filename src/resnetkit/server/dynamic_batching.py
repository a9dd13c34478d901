"""Dynamic batching: images of concurrent requests are computed together or concurrently."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from resnetkit.inference.engines.engine import Engine

#: The logits or the embedding of one image.
Row = npt.NDArray[np.float32]
#: Seconds that an image waits, seconds of a batch, and its number of images.
Quantity = Literal["queue", "compute", "batch"]


class RowFuture(Future[Row]):
    """The row of one image; when it was submitted and started, by ``time.time_ns``."""

    def __init__(self) -> None:
        super().__init__()
        self.submitted = self.started = time.time_ns()


@dataclass(slots=True, kw_only=True)
class _Job:
    pixels: npt.NDArray[np.uint8]
    future: RowFuture = field(default_factory=RowFuture)
    submitted: float = field(default_factory=time.perf_counter)


class BusyError(Exception):
    """The queue is full, or closed."""


class Batcher:
    """Passes the images of many callers to one engine, from ``engine.streams`` threads.

    A batch starts with the first waiting image and has up to ``max_batch_size`` images that arrive
    within ``max_queue_delay`` seconds; with 0 seconds only those already waiting. Below one image
    per stream, waiting or computed, a batch is computed with all threads; above, batches are
    computed concurrently, and smaller ones if that keeps all streams busy. At most
    ``max_queue_size`` images wait; another one raises ``BusyError``. ``observe`` is called with
    measurements.
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
        #: Held to start a batch, and while one is computed with all threads.
        self._turn = threading.Lock()
        self._computed, self._counting = 0, threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, name="batches", daemon=True)
            for _ in range(engine.streams)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Batcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def queue_size(self) -> int:
        """Number of images waiting for a batch."""
        return self._jobs.qsize()

    def submit(self, pixels: npt.NDArray[np.uint8]) -> RowFuture:
        """A future with the row of one image ``(H, W, C)``. Raises ``BusyError``."""
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
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._turn:
                if (first := self._jobs.get()) is None:
                    self._jobs.put(None)  # for the next thread
                    return
                batch = self._wanted(self._gather(first))
                load = len(batch) + self._jobs.qsize() + self._computed
                if load < self._engine.streams:
                    self._compute(batch, shared=False)
                    continue
                self._count(len(batch))
            self._compute(batch, shared=True)
            self._count(-len(batch))

    def _count(self, images: int) -> None:
        with self._counting:
            self._computed += images

    def _gather(self, first: _Job) -> list[_Job]:
        """The batch that starts with ``first``."""
        batch, end = [first], time.monotonic() + self._max_queue_delay
        size, streams = self._max_batch_size, self._engine.streams
        if not self._max_queue_delay:
            load = 1 + self._jobs.qsize() + self._computed
            size = size if load < streams else min(size, max(1, load // streams))
        while len(batch) < size:
            left = end - time.monotonic()
            try:
                job = self._jobs.get(timeout=left) if left > 0 else self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            batch.append(job)
        return batch

    def _compute(self, batch: Sequence[_Job], *, shared: bool) -> None:
        if not batch:
            return
        start = time.perf_counter()
        try:
            pixels = np.stack([job.pixels for job in batch])
            rows = self._engine.answer(pixels, shared=shared)
            if len(rows) != len(batch):
                raise RuntimeError(f"the engine gave {len(rows)} rows for {len(batch)} images")
        except Exception as error:
            for job in batch:
                job.future.set_exception(error)
        else:
            for job, row in zip(batch, rows, strict=True):
                job.future.set_result(row)
        self._observe("compute", time.perf_counter() - start)

    def _wanted(self, batch: Sequence[_Job]) -> list[_Job]:
        """The jobs of a batch that starts whose caller still waits."""
        wanted = [job for job in batch if job.future.set_running_or_notify_cancel()]
        if wanted:
            now = time.perf_counter()
            for job in wanted:
                self._observe("queue", now - job.submitted)
                job.future.started = time.time_ns()
            self._observe("batch", len(wanted))
        return wanted

"""Runs one served model: decodes images, batches them, and computes their rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from resnetkit.data.decoding.decode import Cut, UnreadableImageError
from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import Engine, Output
from resnetkit.inference.prediction import NOT_FINITE, finite
from resnetkit.server import tracing
from resnetkit.server.decoder_pool import DecoderPool, Way
from resnetkit.server.dynamic_batching import Batcher, BusyError, Quantity, Row
from resnetkit.server.metrics import Metrics
from resnetkit.server.served_model import Limits, ServedModel


class NotFiniteRowError(InputError):
    """The network's output for an image is not finite."""

    def __init__(self) -> None:
        super().__init__(NOT_FINITE)


class ModelRunner:
    """A model with a queue and threads for each of its outputs, until ``close``.

    ``decoders`` are shared by all models.
    """

    def __init__(
        self, model: ServedModel, limits: Limits, decoders: DecoderPool, metrics: Metrics
    ) -> None:
        self.model, self._limits = model, limits
        self._decoders, self._metrics = decoders, metrics
        engines: dict[Output, Engine] = {"logits": model.engine}
        if model.embedder is not None:
            engines["embeddings"] = model.embedder
        # An engine that crops gets whole images, one at a time; few are kept decoded.
        cuts = model.engine.options.cuts
        self._size = 1 if cuts else model.max_batch_size or limits.max_batch_size
        fast: Way = "exact" if model.exact else "fast"
        self._way: Way = "whole" if cuts else fast
        self._turn = asyncio.Semaphore(2 * limits.decode_threads) if cuts else nullcontext()
        self._batchers: dict[Output, Batcher] = {}
        for output, engine in engines.items():
            self._batchers[output] = self._batcher(engine)
        self._count_waiting()

    def _batcher(self, engine: Engine) -> Batcher:
        return Batcher(
            engine,
            max_batch_size=self._size,
            max_queue_delay=self._limits.max_queue_delay,
            max_queue_size=self._limits.max_queue_size + self.computed,
            observe=self._observed(),
        )

    def _observed(self) -> Callable[[Quantity, float], None]:
        observe = self._metrics.observer(self.model.label)

        def observed(quantity: Quantity, value: float) -> None:
            observe(quantity, value)
            if quantity == "batch":
                self._count_waiting()

        return observed

    def _count_waiting(self) -> None:
        waiting = sum(batcher.queue_size for batcher in self._batchers.values())
        self._metrics.waiting(self.model.label, waiting)

    @property
    def computed(self) -> int:
        """The largest number of images that are computed at the same time."""
        return self._size * self.model.engine.streams

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The kinds of rows that it computes."""
        return tuple(self._batchers)

    async def row(self, body: bytes, output: Output = "logits") -> Row:
        """The row ``(classes,)`` or ``(features,)`` of an encoded image.

        Raises ``UnreadableImageError``, ``NotFiniteRowError`` and ``BusyError``.
        """
        [row] = (await self.rows(body, (output,))).values()
        return row

    async def rows(self, body: bytes, outputs: tuple[Output, ...]) -> dict[Output, Row]:
        """Several rows of an encoded image, which is decoded once. Raises as ``row``."""
        run = asyncio.get_running_loop().run_in_executor
        with self._counted():
            async with self._turn:
                with tracing.span("decode"):
                    pixels = await run(self._decoders.threads, self._decoded, body)
                return await self._infer(pixels, outputs)

    async def rows_of_pixels(self, pixels: Cut, outputs: tuple[Output, ...]) -> dict[Output, Row]:
        """The rows of an image ``(size, size, C)`` that is already resized and cropped."""
        with self._counted():
            return await self._infer(pixels, outputs)

    async def _infer(self, pixels: Cut, outputs: tuple[Output, ...]) -> dict[Output, Row]:
        waiting = [self._batchers[name].submit(pixels) for name in outputs]
        self._count_waiting()
        rows = await asyncio.gather(*map(asyncio.wrap_future, waiting))
        for one in waiting:
            tracing.record("queue", one.submitted, one.started)
            tracing.record("compute", one.started, time.time_ns())
        if not all(finite(row) for row in rows):
            raise NotFiniteRowError
        return dict(zip(outputs, rows, strict=True))

    async def whole(self, body: bytes) -> Cut:
        """An encoded image, upright, neither resized nor cropped: ``(H, W, C)``.

        Raises ``UnreadableImageError``.
        """
        run = asyncio.get_running_loop().run_in_executor
        decode = self._decoders.decode
        return await run(self._decoders.threads, decode, body, self.model.preprocess, "whole")

    def _decoded(self, body: bytes) -> Cut:
        with self._metrics.decode_seconds.labels(self.model.label).time():
            return self._decoders.decode(body, self.model.preprocess, self._way)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count an image by its outcome."""
        outcome = "failed"
        try:
            yield
            outcome = "answered"
        except UnreadableImageError:
            outcome = "unreadable"
            raise
        except NotFiniteRowError:
            outcome = "not finite"
            raise
        except (BusyError, asyncio.CancelledError):
            outcome = "abandoned"
            raise
        finally:
            self._metrics.images.labels(self.model.label, outcome).inc()

    def close(self) -> None:
        """Answer the waiting images, then stop the threads."""
        for batcher in self._batchers.values():
            batcher.close()

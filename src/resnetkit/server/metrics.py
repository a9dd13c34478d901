"""Metrics of the server, for Prometheus."""

from __future__ import annotations

import os
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnetkit.server.dynamic_batching import Quantity

#: The variable that names a folder where prometheus_client keeps the values of several processes.
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters in a separate registry; those of all processes, if they share a folder."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "resnetkit_requests",
            "Requests by path and status",
            ["path", "status"],
            registry=registry,
        )
        self.images = Counter(
            "resnetkit_images",
            "Images by model and outcome",
            ["model", "outcome"],
            registry=registry,
        )
        self.seconds = Histogram(
            "resnetkit_predict_seconds", "Time of a request to /predict", registry=registry
        )
        self.decode_seconds = Histogram(
            "resnetkit_decode_seconds", "Time to decode an image", ["model"], registry=registry
        )
        self._of_batches = {
            "queue": Histogram(
                "resnetkit_queue_seconds",
                "Time a decoded image waits",
                ["model"],
                registry=registry,
            ),
            "compute": Histogram(
                "resnetkit_compute_seconds",
                "Time to compute a batch",
                ["model"],
                registry=registry,
            ),
            "batch": Histogram(
                "resnetkit_batch_images",
                "Images of a batch",
                ["model"],
                buckets=_SIZES,
                registry=registry,
            ),
        }
        self._queue_size = Gauge(
            "resnetkit_waiting_images",
            "Images waiting for a batch",
            ["model"],
            registry=registry,
            multiprocess_mode="livesum",
        )

    def observer(self, model: str) -> Callable[[Quantity, float], None]:
        """A function that takes the measurements of a ``Batcher`` of this model."""
        histograms = {name: one.labels(model) for name, one in self._of_batches.items()}
        return lambda quantity, value: histograms[quantity].observe(value)

    def waiting(self, model: str, images: int) -> None:
        """The length of the queue of a model."""
        self._queue_size.labels(model).set(images)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        registry = self._registry
        if SHARED_FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def forget_process(pid: int | None) -> None:
    """Leave out what a process that has ended had waiting."""
    mark_process_dead(pid)  # type: ignore[no-untyped-call]


class CountRequests:
    """ASGI middleware: counts requests by route and status."""

    def __init__(self, app: ASGIApp, counter: Counter) -> None:
        self._app, self._counter = app, counter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(scope, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, counted)
        except Exception:  # answered with 500 outside
            self._count(scope, 500)
            raise

    def _count(self, scope: Scope, status: int) -> None:
        self._counter.labels(getattr(scope.get("route"), "path", "other"), str(status)).inc()

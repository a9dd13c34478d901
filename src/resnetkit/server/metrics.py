"""Metrics of the server, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from resnetkit.server.dynamic_batching import Batcher


class Metrics:
    """Counters in a separate registry."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "resnetkit_requests",
            "Requests by path and status",
            ["path", "status"],
            registry=registry,
        )
        self.images = Counter(
            "resnetkit_images", "Images by outcome", ["outcome"], registry=registry
        )
        self.seconds = Histogram(
            "resnetkit_predict_seconds", "Time of a request to /predict", registry=registry
        )
        self._queue_size = Gauge(
            "resnetkit_waiting_images", "Images waiting for a batch", registry=registry
        )
        self._batches = Gauge("resnetkit_batches", "Batches computed", registry=registry)

    def watch(self, batcher: Batcher) -> None:
        """Read the gauges from ``batcher``."""
        self._queue_size.set_function(lambda: batcher.queue_size)
        self._batches.set_function(lambda: batcher.batches)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

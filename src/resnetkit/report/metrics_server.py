"""Serves metrics of a long job for Prometheus, in a thread of its process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnetkit.errors import InputError, require


class MetricsServer:
    """Serves ``http://HOST:PORT/metrics`` from ``listen`` to ``close``.

    ``gauges`` are the names of the metrics, each after ``prefix``, and their descriptions; ``host``
    is an address of this machine, by default all of them. Raises ``InputError`` if
    prometheus_client is not installed or the port is in use.
    """

    def __init__(
        self, prefix: str, gauges: Mapping[str, str], port: int, *, host: str = "0.0.0.0"
    ) -> None:
        client = require("prometheus_client", "serving metrics")
        if not 1 <= port <= 65535:
            raise InputError(
                f"metrics_port is {port}; it must be from 1 to 65535", field="metrics_port"
            )
        self._port, self._host = port, host
        self.registry = client.CollectorRegistry()
        self._gauges: dict[str, Any] = {
            name: client.Gauge(f"{prefix}{name}", text, registry=self.registry)
            for name, text in gauges.items()
        }
        self._start_server: Any = client.start_http_server
        self._server: tuple[Any, Any] | None = None

    def listen(self) -> None:
        """Start to serve, unless that has been done."""
        if self._server is not None:
            return
        try:
            self._server = self._start_server(self._port, self._host, self.registry)
        except OSError as error:
            raise InputError(
                f"metrics_port is {self._port}, which cannot be opened ({error.strerror}); give "
                "another one",
                field="metrics_port",
            ) from None

    def close(self) -> None:
        """End serving."""
        if self._server is not None:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join()
            self._server = None

    def set(self, **values: float) -> None:
        """Set gauges by their names."""
        for name, value in values.items():
            self._gauges[name].set(value)

    def add(self, name: str, value: float) -> None:
        """Add to a gauge."""
        self._gauges[name].inc(value)

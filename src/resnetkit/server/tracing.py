"""Spans of the parts of a request, for OpenTelemetry.

FastAPI makes the span of a request; nothing is done and nothing imported without one.
"""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from resnetkit.errors import missing
from resnetkit.version import __version__

#: The variables that say where spans are sent.
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def span(name: str) -> AbstractContextManager[object]:
    """A span of a part of the request that is being answered, if it is traced."""
    tracer = _tracer()
    return nullcontext() if tracer is None else tracer.start_as_current_span(name)


def record(name: str, start: int, end: int) -> None:
    """A span of a part that has ended; the times are those of ``time.time_ns``."""
    if (tracer := _tracer()) is not None:
        tracer.start_span(name, start_time=start).end(end)


def is_asked_for() -> bool:
    """Whether the environment says where to send spans."""
    return any(map(os.environ.get, _ENDPOINTS))


def check_exporter() -> None:
    """Raise ``InputError`` if the environment asks for spans, and the extra is not installed."""
    if is_asked_for():
        try:
            import opentelemetry.exporter.otlp.proto.http.trace_exporter
            import opentelemetry.sdk.trace  # noqa: F401
        except ModuleNotFoundError as error:
            raise missing(error, "tracing") or error from None


def _tracer() -> Any:
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None or not trace.get_current_span().is_recording():
        return None
    return trace.get_tracer("resnetkit", __version__)

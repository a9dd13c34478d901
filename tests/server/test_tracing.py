"""Spans of requests, in OpenTelemetry's own exporters."""

from __future__ import annotations

import gzip
import signal
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from test_application import LIMITS, TestClient, jpeg, served_of
from test_serve import ask, serving

import resnetkit
from http_serving import http_serving
from resnetkit.errors import InputError
from resnetkit.server import tracing
from resnetkit.server.application import create_app
from resnetkit.server.tracing import check_exporter

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def client(
    bundle_file: Path, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)  # may be set only once
    app = create_app(served_of(resnetkit.load(bundle_file)), LIMITS)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def by_name(exporter: InMemorySpanExporter) -> dict[str, list[ReadableSpan]]:
    found: dict[str, list[ReadableSpan]] = {}
    for span in exporter.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    exporter.clear()
    return found


def test_a_request_and_its_parts(client: TestClient, exporter: InMemorySpanExporter) -> None:
    files = [("files", ("a.jpg", jpeg(n))) for n in range(2)]
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    assert client.post("/models/animals/predict", files=files, headers=headers).status_code == 200
    spans = by_name(exporter)
    [request] = spans.pop("POST /models/{name}/predict")
    assert {name: len(some) for name, some in spans.items()} == {
        "read": 1, "decode": 2, "queue": 2, "compute": 2,
    }  # fmt: skip
    assert request.kind == SpanKind.SERVER
    assert f"{request.context.trace_id:x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    assert request.attributes["http.response.status_code"] == 200
    for part in (span for some in spans.values() for span in some):
        assert part.parent.span_id == request.context.span_id
        assert request.start_time <= part.start_time <= part.end_time <= request.end_time
    for queue, compute in zip(spans["queue"], spans["compute"], strict=True):
        assert queue.end_time == compute.start_time


def test_what_fails(
    client: TestClient, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.post("/predict", content=b"no image").status_code == 422
    [request] = by_name(exporter)["POST /predict"]
    assert request.attributes["http.response.status_code"] == 422
    assert request.status.status_code == StatusCode.UNSET
    assert client.get("/nothing").status_code == 404
    assert list(by_name(exporter)) == ["GET"]

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("resnetkit.server.inference_server.ranked", broken)
    assert client.post("/predict", content=jpeg(0)).status_code == 500
    [request] = by_name(exporter)["POST /predict"]
    assert request.status.status_code == StatusCode.ERROR


def test_a_server_sends_its_spans_before_it_ends(
    bundle_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    paths: list[str] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            paths.append(self.path)
            if self.path != "/v1/traces":
                body = b""
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names.extend(span.name for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http_serving(Collector) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
        with serving(bundle_file, "--engine", "onnxruntime") as (process, url):
            ask(url, jpeg(0))
            assert not names
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    assert sorted(names) == ["POST /predict", "compute", "decode", "queue", "read"]


def test_what_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    check_exporter()
    for name in [name for name in sys.modules if name.startswith("opentelemetry.exporter")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter", None)
    with pytest.raises(InputError, match=r"pip install 'resnetkit\[otel\]'"):
        check_exporter()
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    check_exporter()


def test_without_a_span_there_are_no_parts(
    client: TestClient, exporter: InMemorySpanExporter
) -> None:
    with tracing.span("read"):
        tracing.record("queue", 1, 2)
    assert not exporter.get_finished_spans()

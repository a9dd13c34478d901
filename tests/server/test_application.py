"""The application: the same answers as `predict`, and one clear line for what it cannot take."""

from __future__ import annotations

import asyncio
import io
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import resnetkit
from resnetkit.bundle.opening import open_model
from resnetkit.data.decoding import decode, fast_decode
from resnetkit.exporters.exporter import export
from resnetkit.inference.engines.selection import open_engine
from resnetkit.inference.prediction import predict, ranked
from resnetkit.server.application import create_app
from resnetkit.server.body_limit import BodyLimit
from resnetkit.server.decoder_pool import DecoderPool
from resnetkit.server.served_model import Limits, ServedModel

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of starlette, about the client it will use one day
    from fastapi.testclient import TestClient

LIMITS = Limits(max_batch_size=4, max_queue_size=8, max_body_bytes=200_000, max_files=6)


def jpeg(seed: int, size: tuple[int, int] = (50, 40)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def served_of(bundle: resnetkit.Bundle) -> ServedModel:
    return ServedModel(
        name="animals",
        engine=open_engine(bundle, "torch"),
        preprocess=bundle.preprocess,
        classes=bundle.classes,
        network=bundle.network.name,
    )


@pytest.fixture(scope="module")
def client(bundle_file: Path) -> Iterator[TestClient]:
    served = served_of(resnetkit.load(bundle_file))
    with TestClient(create_app(served, LIMITS, topk=3)) as client:
        yield client


def test_one_image_as_the_body(client: TestClient, bundle_file: Path) -> None:
    body = jpeg(0)
    response = client.post("/predict?topk=2", content=body)
    assert response.status_code == 200
    told = response.json()
    assert told["model"] == "animals"
    expected = resnetkit.load(bundle_file).predict([body], topk=2)[0]
    found = told["images"][0]["predictions"]
    assert [one["label"] for one in found] == [guess.label for guess in expected.scores]
    assert found[0]["probability"] == pytest.approx(expected.probability, abs=1e-4)


@pytest.mark.parametrize("exact", [True, False])
def test_pixels_are_those_of_predict(exact: bool, bundle_file: Path) -> None:
    served = replace(served_of(resnetkit.load(bundle_file)), exact=exact)
    body = jpeg(0, (300, 400))
    facts, name = served.preprocess, "exact" if exact else "fast"
    wanted = {
        "exact": served.engine.answer(np.array([decode.pixels_of(body, facts)]))[0],
        "fast": served.engine.answer(np.array([fast_decode.pixels_of(body, facts, torch=False)]))[
            0
        ],
    }
    assert not np.allclose(wanted["exact"], wanted["fast"], atol=1e-3)
    with TestClient(create_app(served, LIMITS, topk=4)) as client:
        assert client.get("/model").json()["exact_pixels"] == exact
        assert client.get("/model").json() == served.to_dict(), "the schema drops nothing"
        found = client.post("/predict", content=body).json()["images"][0]["predictions"]
    expected = ranked(wanted[name], served.classes, 4)
    assert [one["label"] for one in found] == [one.label for one in expected]
    shares = [one["probability"] for one in found]
    assert shares == pytest.approx([one.probability for one in expected], abs=1e-5)


def test_a_form_of_files_keeps_their_order_and_names_what_is_unreadable(
    client: TestClient, bundle_file: Path
) -> None:
    bodies = {"a.jpg": jpeg(1), "b.jpg": b"no image", "c.jpg": jpeg(2)}
    files = [("files", (name, body)) for name, body in bodies.items()]
    response = client.post("/predict", files=files)
    assert response.status_code == 200
    images = response.json()["images"]
    assert [one["image"] for one in images] == list(bodies)
    assert "predictions" not in images[1]
    assert "not an image" in images[1]["problem"]
    assert len(images[0]["predictions"]) == 3
    bundle = resnetkit.load(bundle_file)
    for place in (0, 2):
        [expected] = bundle.predict([bodies[images[place]["image"]]], topk=1)
        assert images[place]["predictions"][0]["label"] == expected.label


@pytest.mark.parametrize(
    ("given", "status", "line"),
    [
        ({"content": b""}, 422, "the body is empty"),
        ({"content": b"no image"}, 422, "no image can be read: body: not an image"),
        ({"content": jpeg(0)[:300]}, 422, "no image can be read"),
        ({"content": b"x" * 300_000}, 413, "larger than the limit of 200,000 bytes"),
        (
            {"content": (b"x" * 50_000 for _ in range(6))},
            413,
            "larger than the limit of 200,000 bytes",
        ),
        (
            {"files": [("files", ("a.jpg", b"x" * 300_000))]},
            413,
            "larger than the limit of 200,000 bytes",
        ),
        ({"files": [("f", (f"{i}.jpg", jpeg(i))) for i in range(7)]}, 400, "Too many files"),
        ({"data": {"a": "b"}, "files": {}}, 422, ""),
        ({"content": jpeg(0), "params": {"topk": 5}}, 422, "topk is 5; it must be from 1 to 4"),
        ({"content": jpeg(0), "params": {"topk": 0}}, 422, "topk is 0; it must be from 1 to 4"),
        ({"content": jpeg(0), "params": {"topk": "x"}}, 422, "topk is 'x'; it must be a valid int"),
    ],
)
def test_bad_requests(client: TestClient, given: dict, status: int, line: str) -> None:
    response = client.post("/predict", **given)
    assert response.status_code == status
    assert line in response.text
    assert "Traceback" not in response.text
    assert client.post("/predict", content=jpeg(0)).status_code == 200, "it goes on"


def test_other_pages(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    model = client.get("/model").json()
    assert model["network"] == "resnet20"
    assert model["classes"] == ["cat", "dog", "owl", "emu"]
    assert model["preprocess"]["size"] == 32
    assert model["engine"]["engine"] == "torch"
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "<h1>resnet20</h1>" in page.text
    assert 'rel="icon" href="data:' in page.text, "a browser would ask for /favicon.ico"
    assert "/predict" in client.get("/openapi.json").json()["paths"]
    assert client.get("/nothing").status_code == 404


def test_metrics_count_what_was_answered(client: TestClient) -> None:
    def counted(name: str) -> float:
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    answered = 'resnetkit_images_total{model="animals",outcome="answered"}'
    unreadable = 'resnetkit_images_total{model="animals",outcome="unreadable"}'
    before = counted(answered), counted(unreadable)
    client.post("/predict", content=jpeg(3))
    client.post("/predict", content=b"no image")
    assert counted(answered) == before[0] + 1
    assert counted(unreadable) == before[1] + 1
    assert counted('resnetkit_requests_total{path="/predict",status="422"}') >= 1
    for name in ("decode_seconds", "queue_seconds", "compute_seconds", "batch_images"):
        assert counted(f"resnetkit_{name}_count") >= 1


def test_what_fails_inside_is_counted(bundle_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = served_of(resnetkit.load(bundle_file))

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(served.engine, "answer", broken)
    with TestClient(create_app(served, LIMITS), raise_server_exceptions=False) as client:
        response = client.post("/predict", content=jpeg(0))
        assert response.status_code == 500
        assert "broken" not in response.text
        metrics = client.get("/metrics").text
    assert 'resnetkit_requests_total{path="/predict",status="500"} 1.0' in metrics
    assert 'resnetkit_images_total{model="animals",outcome="failed"} 1.0' in metrics


def test_a_graph_that_cuts_is_given_whole_images(bundle_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "cut.onnx"
    export(bundle_file, target, to="onnx", with_preprocessing=True)
    opened = open_model(target)
    engine = open_engine(opened)
    facts, classes = opened.preprocess, opened.classes
    served = ServedModel(
        name="cut", engine=engine, preprocess=facts, classes=classes, network=opened.network.name
    )
    bodies = [jpeg(seed, (40 + seed, 90)) for seed in range(4)]
    wanted = [p.probability for p in predict(engine, facts, classes, bodies, topk=1)]
    with TestClient(create_app(served, LIMITS)) as client:
        files = [("files", ("a.jpg", body)) for body in bodies]
        images = client.post("/predict", files=files).json()["images"]
    found = [one["predictions"][0]["probability"] for one in images]
    assert found == pytest.approx(wanted, abs=1e-6)


def test_answers_that_are_not_finite_are_named(bundle_file: Path) -> None:
    bundle = resnetkit.load(bundle_file)
    broken = {**bundle.arrays, "fc.bias": bundle.arrays["fc.bias"] + float("nan")}
    with TestClient(create_app(served_of(replace(bundle, arrays=broken)))) as client:
        response = client.post("/predict", content=jpeg(0))
    assert response.status_code == 422
    assert "not finite" in response.text


def test_what_is_still_to_be_decoded_waits_too(
    bundle_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, may = threading.Semaphore(0), threading.Event()
    real = DecoderPool.decode

    def slow(self: DecoderPool, *given: Any) -> Any:
        began.release()
        assert may.wait(20)
        return real(self, *given)

    monkeypatch.setattr(DecoderPool, "decode", slow)
    served = served_of(resnetkit.load(bundle_file))
    with (
        TestClient(create_app(served, Limits(max_batch_size=1, max_queue_size=1))) as client,
        ThreadPoolExecutor() as clients,
    ):
        two = [clients.submit(client.post, "/predict", content=jpeg(n)) for n in range(2)]
        assert began.acquire(timeout=20)
        assert began.acquire(timeout=20)
        three = clients.submit(client.post, "/predict", content=jpeg(2))
        try:
            assert three.result(5).status_code == 503, "one is computed, and one waits"
        finally:
            may.set()
        assert [one.result(20).status_code for one in two] == [200, 200]
        assert client.post("/predict", content=jpeg(2)).status_code == 200


def test_the_bodies_of_all_clients_together_are_bounded() -> None:
    """A client that sends a body slowly holds what it has sent; others are told to come back."""
    sent: list[dict] = []

    async def reading(scope: dict, receive: object, send: object) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def both() -> list[int]:
        bounded = BodyLimit(reading, 100, 150)
        stay = asyncio.Event()

        async def ask(sizes: list[int], wait: bool) -> int:
            told: list[int] = []
            left = list(sizes)

            async def receive() -> dict:
                if not left and wait:
                    await stay.wait()
                body = b"x" * (left.pop(0) if left else 0)
                return {"type": "http.request", "body": body, "more_body": bool(left) or wait}

            async def send(message: dict) -> None:
                sent.append(message)
                told.append(message.get("status", 0))

            try:
                await bounded({"type": "http", "headers": []}, receive, send)
            finally:
                told.append(0)
            return told[0]

        slow = asyncio.create_task(ask([60, 30], True))
        await asyncio.sleep(0)
        found = [await ask([50], False), await ask([50, 11], False), await ask([50, 10], False)]
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        return [*found, await ask([90], False), await ask([50, 51], False)]

    assert asyncio.run(both()) == [200, 503, 200, 200, 413]


def test_the_page_takes_a_name_as_text(bundle_file: Path) -> None:
    served = replace(served_of(resnetkit.load(bundle_file)), network="<script>alert(1)</script>")
    with TestClient(create_app(served)) as client:
        assert "<script>alert" not in client.get("/").text

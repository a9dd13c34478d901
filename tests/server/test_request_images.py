"""Images in JSON: base64 and URLs, in order and with their names; embeddings of the same images."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_application import LIMITS, TestClient, jpeg, served_of

import resnetkit
from resnetkit.inference.engines.selection import open_engine
from resnetkit.server.application import create_app
from resnetkit.server.request_images import PredictRequest, _bytes_of, _parsed


def base64_of(body: bytes) -> str:
    return base64.b64encode(body).decode()


@pytest.fixture(scope="module")
def client(bundle_file: Path) -> Iterator[TestClient]:
    bundle = resnetkit.load(bundle_file)
    embedder = open_engine(bundle, "torch", "embeddings")
    served = replace(served_of(bundle), embedder=embedder, exact=True)
    with TestClient(create_app(served, LIMITS, topk=3)) as client:
        yield client


def test_images_in_json_keep_their_order_and_names(client: TestClient, bundle_file: Path) -> None:
    bodies = [jpeg(0), b"no image", jpeg(1)]
    first, second, third = map(base64_of, bodies)
    images = [first, {"base64": second, "name": "broken.jpg"}, {"base64": third, "name": "c.jpg"}]
    response = client.post("/predict", json={"images": images, "topk": 2})
    assert response.status_code == 200, response.text
    found = response.json()["images"]
    assert [one["image"] for one in found] == ["images[0]", "broken.jpg", "c.jpg"]
    assert "not an image" in found[1]["problem"]
    bundle = resnetkit.load(bundle_file)
    for place in (0, 2):
        [expected] = bundle.predict([bodies[place]], topk=2)
        told = found[place]["predictions"]
        assert [one["label"] for one in told] == [score.label for score in expected.scores]
    assert client.post("/models/animals/predict", json={"images": images}).status_code == 200
    named = {"content": json.dumps({"images": [first]}), "params": {"topk": 1}}
    json_type = {"content-type": "Application/JSON; charset=utf-8"}
    told = client.post("/predict", **named, headers=json_type).json()
    assert len(told["images"][0]["predictions"]) == 1


GOOD = base64_of(jpeg(0))
BASE64 = "images[0] must be a string of base64, or an object with base64 or url, and name if wanted"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("", "the body is not JSON (EOF while parsing a value at line 1 column 0)"),
        ("[" * 100_000, "the body is not JSON (recursion limit exceeded at line 1 column "),
        ("{", "the body is not JSON (EOF while parsing an object at line 1 column 1)"),
        ([GOOD], "the body is a list; it must be an object"),
        ({}, "images is missing"),
        ({"images": GOOD}, f"images is {GOOD[:60]!r}; it must be a valid array"),
        ({"images": []}, "images has 0 items; it must have from 1 to 6"),
        ({"images": [GOOD] * 7}, "images has 7 items; it must have from 1 to 6"),
        ({"images": [5]}, BASE64),
        ({"images": [{}]}, BASE64),
        ({"images": [{"base64": GOOD, "url": "http://a.org"}]}, BASE64),
        ({"images": [{"base64": 5}]}, BASE64),
        ({"images": [{"base64": GOOD, "name": 5}]}, BASE64),
        ({"images": [GOOD[:-3]]}, "images[0] is not base64 without line breaks ("),
        ({"images": [GOOD, GOOD[:76] + "\n" + GOOD[76:]]}, "images[1] is not base64 without line"),
        ({"images": ["dätä"]}, "images[0] is not base64 without line breaks"),
        ({"images": ["data:image/jpeg;base64," + GOOD]}, "images[0] is not base64"),
        ({"images": [GOOD], "topk": 9}, "topk is 9; it must be from 1 to 4"),
        ({"images": [GOOD], "topk": 0}, "topk is 0; it must be from 1 to 4"),
        ({"images": [GOOD], "topk": "2"}, "topk is '2'; it must be a valid integer"),
        ({"images": [GOOD], "topk": True}, "topk is True; it must be a valid integer"),
        ({"images": [GOOD], "top": 2}, "'top' is unknown; check its name"),
        ({"images": [{"url": "http://a.org/b.jpg"}]}, "this server does not fetch URLs"),
        ({"images": [base64_of(b"none")]}, "no image can be read: images[0]: not an image"),
    ],
)
def test_what_is_wrong_is_one_line(client: TestClient, given: object, line: str) -> None:
    text = given if isinstance(given, str) else json.dumps(given)
    response = client.post("/predict", content=text, headers={"content-type": "application/json"})
    assert response.status_code == 422
    assert response.json()["detail"].startswith(line)
    assert "\n" not in response.json()["detail"]


def test_topk_is_given_once(client: TestClient) -> None:
    both = {"images": [GOOD], "topk": 2}
    assert client.post("/predict?topk=2", json=both).status_code == 200
    response = client.post("/predict?topk=3", json=both)
    assert response.status_code == 422
    assert response.json() == {"detail": "topk is 3 in the query and 2 in the body; give it once"}


def test_pieces_of_base64_are_decoded_to_the_whole() -> None:
    body = np.random.default_rng(0).bytes(2_000_001)
    assert _bytes_of(base64_of(body), "it") == body
    middle = base64_of(body)[: (1 << 20) - 2] + "==" + base64_of(body)
    with pytest.raises(Exception, match="padding") as caught:
        _bytes_of(middle, "it")
    assert caught.value.status_code == 422


def test_large_base64_does_not_stop_other_requests() -> None:
    """The event loop runs while 30 MB are decoded in threads."""
    body = json.dumps({"images": [base64_of(bytes(23_000_000))]}).encode()

    async def turns() -> int:
        work = asyncio.create_task(
            asyncio.to_thread(lambda: _bytes_of(_parsed(body, PredictRequest).images[0], "it"))
        )
        found = 0
        while not work.done():
            await asyncio.sleep(0.001)
            found += 1
        assert len(await work) == 23_000_000
        return found

    assert max(asyncio.run(turns()) for _ in range(3)) >= 10


def test_what_json_holds_is_counted(bundle_file: Path) -> None:
    """While a body of JSON is decoded it is held three times; a request alone is never refused."""
    served = served_of(resnetkit.load(bundle_file))
    may, began = threading.Event(), threading.Event()

    class Waits:
        async def fetch(self, url: str, count: object) -> bytes:
            began.set()
            await asyncio.to_thread(may.wait, 20)
            return jpeg(0)

    limits = replace(LIMITS, max_body_bytes=100_000, max_total_body_bytes=100_000)
    with TestClient(create_app(served, limits, fetcher=Waits())) as client:
        document = {"images": [{"url": "https://a.org/b"}, base64_of(bytes(20_000))]}
        told: list[int] = []
        first = threading.Thread(
            target=lambda: told.append(client.post("/predict", json=document).status_code)
        )
        first.start()
        assert began.wait(20)
        response = client.post("/predict", content=jpeg(1, (100, 100)))
        assert response.status_code == 200, "80,000 bytes are held, not the limit"
        second = client.post("/predict", json={"images": [base64_of(bytes(6_000))]})
        assert second.status_code == 503
        assert "100,000 bytes of other requests" in second.json()["detail"]
        may.set()
        first.join(20)
        assert told == [200]
        alone = {"images": [base64_of(jpeg(2, (150, 150)))] * 2}
        assert len(json.dumps(alone)) * 3 > 100_000
        assert client.post("/predict", json=alone).status_code == 200, "all is free again"


def test_embeddings_are_those_of_embed(client: TestClient, bundle_file: Path) -> None:
    bodies = [jpeg(0), jpeg(1)]
    expected = resnetkit.embed(bundle_file, bodies, engine="torch")
    images = [{"base64": base64_of(body), "name": f"{n}.jpg"} for n, body in enumerate(bodies)]
    for path, given in [
        ("/embeddings", {"json": {"images": images}}),
        ("/models/animals/embeddings", {"files": [
            ("files", (f"{n}.jpg", body)) for n, body in enumerate(bodies)
        ]}),
    ]:  # fmt: skip
        told = client.post(path, **given).json()
        assert told["model"] == "animals"
        assert [one["image"] for one in told["images"]] == ["0.jpg", "1.jpg"]
        found = np.array([one["embedding"] for one in told["images"]], np.float32)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    [one] = client.post("/embeddings", content=bodies[1]).json()["images"]
    np.testing.assert_allclose(one["embedding"], expected[1], atol=1e-5)
    response = client.post("/embeddings", json={"images": images, "topk": 2})
    assert response.json() == {"detail": "'topk' is unknown; check its name"}
    assert client.get("/model").json()["embeddings"] == 64


def test_without_embeddings_one_line_says_so(bundle_file: Path) -> None:
    with TestClient(create_app(served_of(resnetkit.load(bundle_file)), LIMITS)) as client:
        response = client.post("/embeddings", content=jpeg(0))
    assert response.status_code == 404
    assert response.json()["detail"] == (
        "embeddings of animals are not served; whoever runs the server can start it with embeddings"
    )

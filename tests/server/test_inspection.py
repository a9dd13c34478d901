"""``serve --inspect``: the page that opens the model, and what the model makes of pictures."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import PIL.Image
import pytest
from fastapi.testclient import TestClient
from test_application import jpeg

import resnetkit
from resnetkit.bundle.opening import open_model
from resnetkit.errors import parsed
from resnetkit.server.application import create_app
from resnetkit.server.model_source import ModelSource, ServingOptions


@pytest.fixture(scope="module")
def client(bundle_file: Path) -> Iterator[TestClient]:
    served = ServingOptions(inspect=True).open(ModelSource(name="animals", model=bundle_file))
    with TestClient(create_app(served)) as client:
        yield client


def test_the_page_to_try_it_leads_there(client: TestClient) -> None:
    page = client.get("/").text
    assert '<a href="view">See inside</a>' in page
    assert "{{" not in page


def test_the_page_asks_only_this_server(client: TestClient) -> None:
    answer = client.get("/view")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    [data] = re.findall(r'id="data">([^<]+)<', answer.text)
    document = parsed(zlib.decompress(base64.b64decode(data), -15))
    assert document["live"] is True
    assert document["networks"][document["asked"]]["name"] == "resnet20"
    assert document["input"] == [3, 32, 32]


@pytest.mark.parametrize("way", ["body", "form", "json"])
def test_a_look_is_that_of_python(way: str, client: TestClient, bundle_file: Path) -> None:
    body = jpeg(3)
    given = {
        "body": {"content": body},
        "form": {"files": {"files": ("three.jpg", body)}},
        "json": {"json": {"images": [base64.b64encode(body).decode()]}},
    }[way]
    found = client.post("/look", **given).json()
    wanted = resnetkit.inspect.look(bundle_file, PIL.Image.open(BytesIO(body)))
    assert found.pop("name") == {"body": "body", "form": "three.jpg", "json": "images[0]"}[way]
    assert found == {name: value for name, value in wanted.items() if name != "name"}


@pytest.mark.parametrize(
    ("given", "status", "line"),
    [
        ({"content": b"no image"}, 422, "no image can be read: body: not an image, or of an"),
        ({"content": b""}, 422, "the body is empty"),
        ({"json": {"images": ["AAAA", "AAAA"]}}, 422, "the request has 2 images; send one"),
    ],
)
def test_bad_pictures(given: dict, status: int, line: str, client: TestClient) -> None:
    answer = client.post("/look", **given)
    assert answer.status_code == status
    assert answer.json()["detail"].startswith(line)


def test_a_network_that_is_not_finite(bundle_file: Path) -> None:
    bundle = resnetkit.load(bundle_file)
    arrays = {name: tensor.clone() for name, tensor in bundle.arrays.items()}
    arrays["fc.bias"][:] = float("nan")
    options = ServingOptions(inspect=True)
    served = options.open(ModelSource(name="broken", model=replace(bundle, arrays=arrays)))
    with TestClient(create_app(served)) as client:
        answer = client.post("/look", content=jpeg(0))
    assert answer.status_code == 422
    assert "not finite" in answer.json()["detail"]


def test_only_bundles_are_opened_and_only_if_asked(bundle_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    resnetkit.export(bundle_file, target, agree_on="digits", min_agreement=0)
    for model, inspect in ((bundle_file, False), (open_model(target), True)):
        served = ServingOptions(inspect=inspect).open(ModelSource(name="one", model=model))
        with TestClient(create_app(served)) as client:
            assert client.get("/view").status_code == 404
            assert "See inside" not in client.get("/").text
            assert client.post("/look", content=jpeg(0)).status_code == 404

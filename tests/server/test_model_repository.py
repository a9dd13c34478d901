"""Several models and versions in one server, and a model that is replaced while it serves."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_application import TestClient, jpeg, served_of

import resnetkit
from resnetkit.errors import InputError
from resnetkit.inference.engines.selection import open_engine
from resnetkit.server.application import create_app
from resnetkit.server.metrics import Metrics
from resnetkit.server.model_repository import ModelRepository, UnknownModelError
from resnetkit.server.served_model import Limits, ServedModel

PIXELS = np.full((32, 32, 3), 77, np.uint8)


def raised(bundle: resnetkit.Bundle, number: int) -> resnetkit.Bundle:
    """The bundle with another bias, so that class ``number`` is always the best."""
    bias = bundle.arrays["fc.bias"] + 100.0 * (torch.arange(4) == number)
    return replace(bundle, arrays={**bundle.arrays, "fc.bias": bias})


@pytest.fixture(scope="module")
def models(bundle_file: Path) -> list[ServedModel]:
    bundle = resnetkit.load(bundle_file)
    named = [("animals", "1"), ("other", "1"), ("other", "2"), ("other", "3")]
    return [
        replace(served_of(raised(bundle, place)), name=name, version=version)
        for place, (name, version) in enumerate(named)
    ]


def test_requests_name_their_model(models: list[ServedModel]) -> None:
    with TestClient(create_app(models)) as client:
        for path, model, label in [
            ("/predict", "animals", "cat"),
            ("/models/animals/predict", "animals", "cat"),
            ("/models/other/predict", "other", "emu"),
        ]:
            told = client.post(path, content=jpeg(0)).json()
            assert (told["model"], told["images"][0]["predictions"][0]["label"]) == (model, label)
        assert [(one["model"], one["version"]) for one in client.get("/models").json()] == [
            (one.name, one.version) for one in models
        ]
        assert client.get("/models/other").json()["version"] == "3", "the last one"
        assert client.get("/model").json()["model"] == "animals"
        missing = client.post("/models/nothing/predict", content=jpeg(0))
        assert missing.status_code == 404
        told = missing.json()["detail"]
        assert told == "no model 'nothing' is served; it must be one of animals, other"
        counted = client.get("/metrics").text
    assert 'resnetkit_images_total{model="animals",outcome="answered"} 2.0' in counted
    assert 'resnetkit_images_total{model="other@3",outcome="answered"} 1.0' in counted
    for label in ("animals", "other", "other@2", "other@3"):
        assert f'resnetkit_waiting_images{{model="{label}"}} 0.0' in counted


def test_versions(models: list[ServedModel]) -> None:
    repository = ModelRepository(models, Limits(), Metrics())
    assert not repository.ready
    assert repository.model("other").version == "3"
    assert repository.model("other", "2") is models[2]
    with pytest.raises(UnknownModelError, match="has no version '4'; it must be one of 1, 2, 3"):
        repository.model("other", "4")
    with pytest.raises(InputError, match="two models are version 1 of animals"):
        ModelRepository([models[0], models[0]], Limits(), Metrics())
    with pytest.raises(InputError, match="there are no models"):
        ModelRepository([], Limits(), Metrics())


def test_logits_and_embeddings_of_one_image(bundle_file: Path) -> None:
    bundle = resnetkit.load(bundle_file)
    served = replace(served_of(bundle), embedder=open_engine(bundle, "torch", "embeddings"))

    async def rows() -> dict:
        async with ModelRepository([served], Limits(), Metrics()) as repository:
            with repository.use() as runner:
                assert runner.outputs == ("logits", "embeddings")
                return await runner.rows_of_pixels(PIXELS, ("embeddings", "logits"))

    found = asyncio.run(rows())
    assert list(found) == ["embeddings", "logits"]
    for output, engine in (("logits", served.engine), ("embeddings", served.embedder)):
        np.testing.assert_allclose(found[output], engine.answer(PIXELS[None])[0], atol=1e-5)


def test_a_replaced_model_answers_what_it_was_asked(bundle_file: Path) -> None:
    """Requests are made all the time; each is answered, by the old one or the new one."""
    bundle = resnetkit.load(bundle_file)
    old, new = (served_of(raised(bundle, place)) for place in (1, 2))
    best: list[int] = []

    async def ask(repository: ModelRepository) -> None:
        with repository.use() as runner:
            await asyncio.sleep(0)  # as while a body is decoded
            row = (await runner.rows_of_pixels(PIXELS, ("logits",)))["logits"]
        best.append(int(row.argmax()))

    async def check() -> None:
        async with ModelRepository([old], Limits(max_queue_size=1000), Metrics()) as repository:
            with repository.use() as held:
                asked = [asyncio.create_task(ask(repository)) for _ in range(20)]
                await asyncio.sleep(0)
                replaced = asyncio.create_task(repository.replace(new))
                await asyncio.sleep(0)
                asked += [asyncio.create_task(ask(repository)) for _ in range(20)]
                await asyncio.gather(*asked)
                assert not replaced.done(), "the old one is held"
                row = (await held.rows_of_pixels(PIXELS, ("logits",)))["logits"]
                assert row.argmax() == 1
            await replaced
            assert repository.model() is new
            with pytest.raises(UnknownModelError):
                await repository.replace(replace(new, name="unknown"))

    asyncio.run(check())
    assert sorted(best) == [1] * 20 + [2] * 20

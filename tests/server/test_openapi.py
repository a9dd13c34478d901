"""The OpenAPI document is true: requests made from it get what it says, and never a 5xx.

schemathesis makes requests that follow the document, and ones that do not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from test_application import LIMITS, jpeg, served_of

import resnetkit
from resnetkit.inference.engines.selection import open_engine
from resnetkit.server.application import create_app

IMAGES = st.sampled_from([jpeg(0), jpeg(1), jpeg(2)[:500], b"no image", b""])
schemathesis.openapi.media_type("image/*", IMAGES)


@pytest.fixture(scope="module")
def api(bundle_file: Path) -> schemathesis.BaseSchema:
    bundle = resnetkit.load(bundle_file)
    embedder = open_engine(bundle, "torch", "embeddings")
    app = create_app(replace(served_of(bundle), embedder=embedder), LIMITS)
    return schemathesis.openapi.from_asgi("/openapi.json", app)


def statuses(operation: APIOperation, mode: GenerationMode, examples: int) -> Counter:
    """The statuses of requests that follow the document, or do not."""
    found: Counter[int] = Counter()
    # Bytes that follow the document need not be an image.
    excluded = [positive_data_acceptance] if operation.method == "post" else []

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        if case.path_parameters and found.total() % 4:
            known = {"name": "animals", "version": "1"}
            case.path_parameters.update({key: known[key] for key in case.path_parameters})
        found[case.call_and_validate(excluded_checks=excluded).status_code] += 1

    ask()
    print(operation.label, mode.value, dict(found))
    return found


def check(api: schemathesis.BaseSchema, examples: int) -> None:
    paths = set()
    for result in api.get_all_operations():
        operation = result.ok()
        paths.add(operation.path)
        found = statuses(operation, GenerationMode.POSITIVE, examples)
        # A tensor of random bytes is no image.
        assert found[200] or operation.path.endswith("/infer"), "some are answered"
        if operation.method == "post" and operation.body:
            found = statuses(operation, GenerationMode.NEGATIVE, examples)
            assert found[400] or found[404] or found[422], "some are refused"
    assert {
        "/predict",
        "/v2/models/{name}/infer",
        "/v2/health/ready",
        "/embeddings",
        "/models/{name}",
        "/metrics",
    } < paths


def test_requests_get_what_the_document_says(api: schemathesis.BaseSchema) -> None:
    check(api, 25)


@pytest.mark.slow
def test_many_requests_get_what_the_document_says(api: schemathesis.BaseSchema) -> None:
    check(api, 500)

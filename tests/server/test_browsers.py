"""What browsers and probes send: HEAD, OPTIONS, and the Origin of a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from test_application import LIMITS, TestClient, jpeg, served_of

import resnetkit
from resnetkit.errors import InputError
from resnetkit.server.access import Access
from resnetkit.server.application import create_app

PAGE = "https://example.org"


@pytest.fixture(scope="module")
def client_with(bundle_file: Path) -> Callable[..., TestClient]:
    served = served_of(resnetkit.load(bundle_file))
    return lambda *origins: TestClient(
        create_app(served, LIMITS, access=Access(cors_origins=origins))
    )


def test_head_is_get_without_a_body(client_with: Callable[..., TestClient]) -> None:
    with client_with() as client:
        for path in ("/", "/health", "/model", "/models", "/models/animals"):
            head, get = client.head(path), client.get(path)
            assert (head.status_code, get.status_code) == (200, 200)
            assert head.headers == get.headers
        assert client.head("/metrics").status_code == 200
        assert client.head("/models/none").status_code == 404
        assert client.head("/predict").status_code == 405
        assert client.head("/predict").headers["allow"] == "POST"


def test_a_page_of_another_origin_may_not_read(client_with: Callable[..., TestClient]) -> None:
    asking = {"origin": PAGE, "access-control-request-method": "POST"}
    with client_with() as client:
        response = client.post("/predict", content=jpeg(0), headers={"origin": PAGE})
        assert "access-control-allow-origin" not in response.headers
        assert client.options("/predict", headers=asking).status_code == 405
    with client_with("https://other.org") as client:
        response = client.post("/predict", content=jpeg(0), headers={"origin": PAGE})
        assert "access-control-allow-origin" not in response.headers
        assert client.options("/predict", headers=asking).status_code == 400


@pytest.mark.parametrize("origins", [(PAGE,), ("http://localhost:3000", PAGE), ("*",)])
def test_a_page_of_an_allowed_origin(
    client_with: Callable[..., TestClient], origins: tuple[str, ...]
) -> None:
    allowed = "*" if origins == ("*",) else PAGE
    with client_with(*origins) as client:
        asking = {
            "origin": PAGE,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type,x-api-key",
        }
        response = client.options("/predict", headers=asking)
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == allowed
        assert "POST" in response.headers["access-control-allow-methods"]
        assert "x-api-key" in response.headers["access-control-allow-headers"]
        for given, status in [
            ({"content": jpeg(0)}, 200),
            ({"content": b""}, 422),
            ({"content": bytes(300_000)}, 413),
        ]:
            response = client.post("/predict", **given, headers={"origin": PAGE})
            assert response.status_code == status
            assert response.headers["access-control-allow-origin"] == allowed
            assert response.headers["access-control-expose-headers"] == "retry-after"
            assert "access-control-allow-credentials" not in response.headers
        assert "access-control-allow-origin" not in client.get("/model").headers


@pytest.mark.parametrize(
    "origin",
    [
        "example.org",
        "https://example.org/",
        "https://example.org/page",
        "https://EXAMPLE.org",
        "https://example.org:443",
        "http://example.org:80",
        "https://me@example.org",
        "https://*.example.org",
        "ftp://example.org",
        "null",
        "",
    ],
)
def test_what_no_browser_sends_is_refused(
    client_with: Callable[..., TestClient], origin: str
) -> None:
    with pytest.raises(InputError, match="the CORS origin") as caught:
        client_with(origin)
    assert "\n" not in str(caught.value)
    for fine in ("http://example.org:443", "https://example.org:80", "http://[::1]:3000"):
        client_with(fine)

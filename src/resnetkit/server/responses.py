"""The responses of the HTTP API, from which its OpenAPI document is made."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from resnetkit.preprocess import Preprocess


class ClassProbability(BaseModel):
    """A class and its probability, 0 to 1."""

    label: str
    probability: float


class ImagePredictions(BaseModel):
    """The most probable classes of an image, best first."""

    image: str
    predictions: list[ClassProbability]


class ImageEmbedding(BaseModel):
    """The pooled features of an image."""

    image: str
    embedding: list[float]


class ImageProblem(BaseModel):
    """Why there is no answer for an image."""

    image: str
    problem: str


class Predictions(BaseModel):
    """The answers for the images of a request, in order."""

    model: str
    images: list[ImagePredictions | ImageProblem]


class Embeddings(BaseModel):
    """The answers for the images of a request, in order."""

    model: str
    images: list[ImageEmbedding | ImageProblem]


class EngineFacts(BaseModel):
    """The engine; ``threads`` is null for one per CPU."""

    model_config = ConfigDict(extra="allow")

    engine: str
    precision: str
    pixels: str
    output: str
    version: str
    device: str
    threads: int | None


class ModelFacts(BaseModel):
    """A served model; ``embeddings`` is their length, or null if they are not served; ``sha256``
    that of its file, or null if it has none."""

    model_config = ConfigDict(extra="allow")

    model: str
    version: str
    network: str
    classes: list[str]
    preprocess: Preprocess
    exact_pixels: bool
    engine: EngineFacts
    embeddings: int | None
    sha256: str | None


class Health(BaseModel):
    """The process runs."""

    status: Literal["ok"]


class Ready(BaseModel):
    """Whether requests are taken, and why not."""

    ready: bool
    reason: str | None = None


class Failure(BaseModel):
    """Why there is no answer, in one line."""

    detail: str


_FAILURES = {
    400: "the form is not well-formed or has too many files, or the body has two lengths",
    401: "the API key is missing or wrong",
    404: "no model of this name is served, or it has no such output",
    413: "the body is larger than the limit",
    415: "the body has a Content-Encoding",
    422: "no image can be read, or a parameter is not allowed; the line says which and why",
    429: "this client has too many requests in progress",
    503: "too many images or bytes are waiting, or the server is stopping; see Retry-After",
}


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of responses without an answer."""
    return {one: {"model": Failure, "description": _FAILURES[one]} for one in statuses}

"""The images of a request: its body, the files of a form, or JSON with base64 and URLs."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Protocol

from fastapi import HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile

from resnetkit.errors import shown
from resnetkit.files import utf8
from resnetkit.server.body_limit import HeldBytes
from resnetkit.server.served_model import Limits

#: Base64 is decoded in pieces of this many characters, a multiple of 4, between which other threads
#: run.
_PIECE = 1 << 20
_NAME = Field(default=None, description="name of the image in the response")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Base64Image(_Strict):
    """An encoded image (JPEG, PNG, ...) in base64."""

    base64: str = Field(min_length=1, json_schema_extra={"contentEncoding": "base64"})
    name: str | None = _NAME


class UrlImage(_Strict):
    """An image that the server fetches, if it is allowed to."""

    url: str = Field(min_length=1, json_schema_extra={"format": "uri"})
    name: str | None = _NAME


class EmbeddingsRequest(_Strict):
    """Any number of images; a string is an image in base64."""

    images: list[Annotated[str, Field(min_length=1)] | Base64Image | UrlImage]


class PredictRequest(EmbeddingsRequest):
    """Any number of images, and the number of classes of each."""

    topk: int | None = Field(default=None, description="as in the query")


class FetchError(Exception):
    """A URL cannot be fetched; the text is the reason."""


class Fetcher(Protocol):
    """What fetches URLs."""

    async def fetch(self, url: str, count: Callable[[int], None]) -> bytes:
        """The content of a URL; ``count`` is called with the bytes as they come."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestImage:
    """An encoded image, from ``url`` if it has one; or the reason why there is none."""

    name: str
    body: bytes = b""
    url: str = ""
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestImages:
    """The images of a request in order, and the ``topk`` of its JSON."""

    images: Sequence[RequestImage]
    topk: int | None = None


class ImageReader:
    """Reads the images of requests; URLs only with a ``fetcher``.

    The methods raise ``HTTPException`` with one line.
    """

    def __init__(self, limits: Limits, fetcher: Fetcher | None = None) -> None:
        self._limits, self._fetcher = limits, fetcher

    async def read(self, request: Request, schema: type[EmbeddingsRequest]) -> RequestImages:
        """The images of a request; its JSON has to follow ``schema``."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            return await self._from_json(request, schema)
        if kind == "multipart/form-data":
            return RequestImages(images=await self._from_form(request))
        body = await request.body()
        if not body:
            raise HTTPException(422, "the body is empty; send an image, or a form with files")
        return RequestImages(images=[RequestImage(name="body", body=body)])

    async def _from_form(self, request: Request) -> Sequence[RequestImage]:
        most = self._limits.max_files
        async with request.form(max_files=most, max_fields=most) as form:
            files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            if not files:
                raise HTTPException(422, "the form has no files; send at least one image")
            return [
                RequestImage(name=utf8(file.filename or "image"), body=await file.read())
                for file in files
            ]

    async def _from_json(self, request: Request, schema: type[EmbeddingsRequest]) -> RequestImages:
        held: HeldBytes = request.scope["held_bytes"]
        body = b"".join([piece async for piece in request.stream()])
        held.add(2 * len(body))  # its strings, and what is decoded from them
        document, images = await asyncio.to_thread(self._decoded, body, schema)
        fetched = 0

        def count(size: int) -> None:
            nonlocal fetched
            fetched += size
            if fetched > (most := self._limits.max_body_bytes):
                raise FetchError(f"what this request fetches exceeds the limit of {most:,} bytes")
            held.add(size)

        fetching = [
            asyncio.create_task(self._fetched(one, count) if one.url else _ready(one))
            for one in images
        ]
        try:
            images = await asyncio.gather(*fetching)
        finally:
            for task in fetching:
                task.cancel()
        return RequestImages(images=images, topk=getattr(document, "topk", None))

    def _decoded(
        self, body: bytes, schema: type[EmbeddingsRequest]
    ) -> tuple[EmbeddingsRequest, list[RequestImage]]:
        """The document, and its images, of which those with a URL have no content yet."""
        document, most = _parsed(body, schema), self._limits.max_files
        if not 1 <= (count := len(document.images)) <= most:
            raise HTTPException(422, f"images has {count} items; it must have from 1 to {most}")
        if self._fetcher is None and any(isinstance(one, UrlImage) for one in document.images):
            raise HTTPException(422, "this server does not fetch URLs; send the images in base64")
        return document, [
            _image(one, f"images[{number}]") for number, one in enumerate(document.images)
        ]

    async def _fetched(self, image: RequestImage, count: Callable[[int], None]) -> RequestImage:
        assert self._fetcher is not None
        try:
            return replace(image, body=await self._fetcher.fetch(image.url, count))
        except FetchError as error:
            return replace(image, problem=f"the URL cannot be fetched: {error}")


async def _ready(image: RequestImage) -> RequestImage:
    return image


def _image(given: str | Base64Image | UrlImage, place: str) -> RequestImage:
    if isinstance(given, UrlImage):
        return RequestImage(name=given.name or given.url, url=given.url)
    text, name = (given, None) if isinstance(given, str) else (given.base64, given.name)
    return RequestImage(name=name or place, body=_bytes_of(text, place))


def one_line(errors: Sequence[Any]) -> str:
    """The first of pydantic's errors about a request, as one line."""
    first = errors[0]
    kind, (place, *_) = first["type"], first["loc"] or ("the body",)
    if kind == "json_invalid":
        return f"the body is not JSON ({first['ctx']['error']})"
    if kind == "missing":
        return f"{place} is missing"
    if kind == "extra_forbidden":
        return f"{shown(place)} is unknown; check its name"
    _, _, allowed = first["msg"].partition("should be ")
    allowed = allowed.partition(",")[0] or first["msg"]
    return f"{place} is {shown(first['input'])}; it must be {allowed}"


def _parsed(body: bytes, schema: type[EmbeddingsRequest]) -> EmbeddingsRequest:
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False)
        place = found[0]["loc"]
        if len(place) > 1 and place[0] == "images":
            line = (
                f"images[{place[1]}] must be a string of base64, or an object with base64 or url, "
                "and name if wanted"
            )
        else:
            line = one_line(found)
        raise HTTPException(422, line) from None


def _bytes_of(text: str, place: str) -> bytes:
    """The bytes of a string of base64."""
    pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
    try:
        found = [base64.b64decode(piece, validate=True) for piece in pieces]
        if any(len(one) < _PIECE // 4 * 3 for one in found[:-1]):
            raise binascii.Error("padding before the end")
    except ValueError as error:
        reason = str(error).partition(";")[0]
        raise HTTPException(422, f"{place} is not base64 without line breaks ({reason})") from None
    return b"".join(found)

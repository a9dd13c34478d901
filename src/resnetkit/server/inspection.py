"""A page that opens a model, and what the model makes of a picture."""

from __future__ import annotations

import asyncio
from typing import Any

import PIL.Image
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse

from resnetkit.architecture.explanation import explain
from resnetkit.bundle.bundle import Bundle
from resnetkit.data.decoding.decode import UnreadableImageError
from resnetkit.errors import InputError
from resnetkit.inspect import look
from resnetkit.inspect.page.view_page import view_page
from resnetkit.server.inference_server import InferenceServer
from resnetkit.server.request_images import EmbeddingsRequest, ImageReader, RequestImage
from resnetkit.server.responses import failures
from resnetkit.server.security_headers import page_policy

_OF_PICTURES = failures(400, 401, 404, 413, 415, 422, 429, 503)


def inspection_routes(server: InferenceServer) -> APIRouter:
    """The routes of the first model's page; it is a bundle."""
    router, reader = APIRouter(), ImageReader(server.limits)
    turn = asyncio.Semaphore(1)

    @router.get("/view", include_in_schema=False)
    def view() -> HTMLResponse:
        page = view_page(
            explain(_bundle(server).network, _bundle(server).preprocess.size), live=True
        )
        return HTMLResponse(page, headers={"content-security-policy": page_policy(page)})

    @router.post("/look", responses=_OF_PICTURES)
    async def look_at(request: Request) -> dict[str, Any]:
        """What each stage and block of the first model makes of an image, as maps."""
        given = (await reader.read(request, EmbeddingsRequest)).images
        if len(given) != 1:
            raise HTTPException(422, f"the request has {len(given)} images; send one")
        with server.repository.use() as runner, server.admitted(1, runner):
            try:
                if given[0].problem is not None:
                    raise UnreadableImageError(given[0].name, given[0].problem)
                pixels = await runner.whole(given[0].body)
                async with turn:
                    return await asyncio.to_thread(_look, _bundle(server), pixels, given[0])
            except UnreadableImageError as error:
                reason = f"no image can be read: {given[0].name}: {error.reason}"
                raise HTTPException(422, reason) from None
            except InputError as error:
                raise HTTPException(422, str(error)) from None

    return router


def _bundle(server: InferenceServer) -> Bundle:
    bundle = server.repository.model().bundle
    if bundle is None:  # a bundle may be replaced by an exported file
        raise HTTPException(404, "the model is an exported file; only bundles can be opened")
    return bundle


def _look(bundle: Bundle, pixels: Any, given: RequestImage) -> dict[str, Any]:
    grey = pixels.shape[-1] == 1
    picture = PIL.Image.fromarray(pixels[..., 0] if grey else pixels)
    return {**look(bundle, picture), "name": given.name}

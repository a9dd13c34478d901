"""Answers requests with images."""

from __future__ import annotations

import asyncio
import html
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse

from resnetkit.data.decoding.decode import UnreadableImageError
from resnetkit.files import utf8
from resnetkit.inference.engines.engine import Output
from resnetkit.inference.prediction import NOT_FINITE, ranked
from resnetkit.server import tracing
from resnetkit.server.dynamic_batching import BusyError, Row
from resnetkit.server.metrics import Metrics
from resnetkit.server.model_repository import ModelRepository
from resnetkit.server.model_runner import ModelRunner, NotFiniteRowError
from resnetkit.server.request_images import (
    EmbeddingsRequest,
    Fetcher,
    ImageReader,
    PredictRequest,
    RequestImage,
)
from resnetkit.server.security_headers import page_policy
from resnetkit.server.served_model import Limits, ServedModel

#: Runs while models are served, until it is cancelled.
Background = Callable[[ModelRepository], Coroutine[Any, Any, None]]


#: On the page to try a model, where `/view` opens it.
_INSIDE = (
    '<p><a href="view">See inside</a>: where in a picture each class was seen (class activation), '
    "and what each stage made of it; also with the camera.</p>\n"
)


class InferenceServer:
    """Answers requests with the models of a repository, which is open during ``lifespan``.

    ``topk`` is the default number of classes. URLs in requests are fetched with ``fetcher``.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        limits: Limits,
        topk: int,
        fetcher: Fetcher | None = None,
        background: Sequence[Background] = (),
    ) -> None:
        self.metrics, self.limits, self._topk = Metrics(), limits, topk
        self._background = background
        self.repository = ModelRepository(models, limits, self.metrics)
        self._reader = ImageReader(limits, fetcher)
        self._pending = 0
        page = (files("resnetkit.server") / "page.html").read_text(encoding="utf-8")
        self._page_headers = {"content-security-policy": page_policy(page)}
        inside = _INSIDE if models[0].bundle is not None else ""
        self._page = page.replace("{{inside}}", inside).replace(
            "{{network}}", html.escape(self.repository.model().network)
        )

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Run the threads of the models, and what runs in the background."""
        async with self.repository:
            tasks = [asyncio.create_task(one(self.repository)) for one in self._background]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def admitted(self, images: int, runner: ModelRunner) -> Iterator[None]:
        """Count images that have been received and are not answered yet.

        Raises ``BusyError`` if there are too many.
        """
        if self._pending + images > self.limits.max_queue_size + runner.computed:
            raise BusyError(f"{self._pending} images are already waiting")
        self._pending += images
        try:
            yield
        finally:
            self._pending -= images

    async def predict(self, request: Request, topk: int | None, name: str | None = None) -> Any:
        """The ``topk`` classes of each image of a request."""
        start = time.perf_counter()
        _check_topk(topk, self.repository.model(name))  # before the body is read
        with tracing.span("read"):
            given = await self._reader.read(request, PredictRequest)
        if None not in (topk, given.topk) and topk != given.topk:
            raise HTTPException(
                422, f"topk is {topk} in the query and {given.topk} in the body; give it once"
            )
        topk = given.topk if topk is None else topk
        _check_topk(topk, self.repository.model(name))
        model, answers = await self._rows(given.images, name, "logits")
        self.metrics.seconds.observe(time.perf_counter() - start)
        return _answered(model, given.images, [
            one if isinstance(one, str) else _predictions(one, model, topk or self._topk)
            for one in answers
        ])  # fmt: skip

    async def embed(self, request: Request, name: str | None = None) -> Any:
        """The embedding of each image of a request."""
        if self.repository.model(name).embedder is None:
            raise HTTPException(
                404,
                f"embeddings of {self.repository.model(name).name} are not served; whoever runs "
                "the server can start it with embeddings",
            )
        with tracing.span("read"):
            given = await self._reader.read(request, EmbeddingsRequest)
        model, answers = await self._rows(given.images, name, "embeddings")
        return _answered(model, given.images, [
            one if isinstance(one, str) else {"embedding": one.tolist()} for one in answers
        ])  # fmt: skip

    async def _rows(
        self, images: Sequence[RequestImage], name: str | None, output: Output
    ) -> tuple[ServedModel, list[Row | str]]:
        """A model, and its row for each image or the reason why there is none."""
        with self.repository.use(name) as runner, self.admitted(len(images), runner):
            rows = await asyncio.gather(*(_row(runner, image, output) for image in images))
        return runner.model, rows

    def model(self, name: str | None = None) -> Any:
        """The first model, or another one."""
        return self.repository.model(name).to_dict()

    def models(self) -> Any:
        """All models, and all versions of each."""
        return [one.to_dict() for one in self.repository.models]

    def page(self) -> HTMLResponse:
        """A page to try the first model."""
        return HTMLResponse(self._page, headers=self._page_headers)


def _check_topk(topk: int | None, model: ServedModel) -> None:
    most = len(model.classes)
    if topk is not None and not 1 <= topk <= most:
        raise HTTPException(422, f"topk is {topk}; it must be from 1 to {most}")


async def _row(runner: ModelRunner, image: RequestImage, output: Output) -> Row | str:
    """The row of an image, or the reason why there is none."""
    if image.problem is not None:
        return image.problem
    try:
        return await runner.row(image.body, output)
    except UnreadableImageError as error:
        return error.reason
    except NotFiniteRowError:
        return NOT_FINITE


def _predictions(row: Row, model: ServedModel, topk: int) -> dict[str, Any]:
    scores = ranked(row, model.classes, topk)
    return {"predictions": [{"label": utf8(s.label), "probability": s.probability} for s in scores]}


def _answered(
    model: ServedModel, images: Sequence[RequestImage], answers: Sequence[dict[str, Any] | str]
) -> dict[str, Any]:
    """The response with an answer or a problem for each image; 422 if there is no answer."""
    if all(isinstance(one, str) for one in answers):
        reasons = "; ".join(
            f"{image.name}: {one}" for image, one in zip(images, answers, strict=True)
        )
        raise HTTPException(422, f"no image can be read: {reasons}")
    return {
        "model": model.name,
        "images": [
            {"image": image.name, **({"problem": one} if isinstance(one, str) else one)}
            for image, one in zip(images, answers, strict=True)
        ],
    }

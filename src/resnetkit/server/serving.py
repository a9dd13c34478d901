"""Runs the HTTP server."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resnetkit.bundle.bundle import Bundle
from resnetkit.bundle.opening import as_model
from resnetkit.errors import NO_CLASSES, InputError, check_installed
from resnetkit.inference.engines.autotune import tuned
from resnetkit.inference.engines.engine import EngineName
from resnetkit.inference.engines.exported_model import Exported
from resnetkit.inference.engines.selection import open_engine
from resnetkit.source import short_name

if TYPE_CHECKING:
    from resnetkit.server.served_model import ServedModel

#: Sizes of a batch that are tried: larger ones make every request wait.
DEFAULT_SIZES = (1, 4, 8)


def serve(
    model: Bundle | Exported | str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    engine: EngineName = "auto",
    device: str | None = None,
    threads: int | None = None,
    topk: int = 5,
    exact: bool = False,
    max_batch_size: int | None = None,
    max_queue_delay: float = 0.0,
    max_queue_size: int = 256,
    max_body_bytes: int = 32 << 20,
    embeddings: bool = False,
    allow_url: bool = False,
    cors_origins: Sequence[str] = (),
    on_start: Callable[[str], None] = print,
) -> None:
    """Serve ``model`` until SIGTERM or SIGINT; SIGINT raises ``KeyboardInterrupt``.

    ``exact`` makes pixels bit-equal to torchvision's, otherwise a faster path is used. A batch has
    at most ``max_batch_size`` images, by default the fastest number up to 8, which is measured once
    for a model and machine, and waits ``max_queue_delay`` seconds for more. At most
    ``max_queue_size`` images may wait. A request has at most ``max_body_bytes``, an answer ``topk``
    classes per image. ``on_start`` is called with one line when the server is ready.

    ``embeddings`` are served too, by a second engine of the same network. With ``allow_url``,
    requests may have URLs of images, which the server fetches from public addresses. Pages of
    ``cors_origins`` (``https://host``, or ``*`` for all) may use the server from a browser. Traces
    are sent as the standard variables ``OTEL_*`` of OpenTelemetry say, by default nowhere.

    Raises ``ValueError`` for an unusable model or engine, a missing extra, and an address in use.

    >>> resnetkit.serve(model, port=0)
    http://127.0.0.1:... serves model (resnet20), openvino fp32
    """
    for package in ("fastapi", "uvicorn", "prometheus_client", "httpcore"):
        check_installed(package, "serving")
    import uvicorn

    from resnetkit.server.application import check_origins, create_app
    from resnetkit.server.served_model import Limits, ServedModel
    from resnetkit.server.tracing import check_exporter
    from resnetkit.server.url_fetching import UrlFetcher

    check_origins(cors_origins)
    check_exporter()

    opened = as_model(model)
    name = short_name(model) if isinstance(model, str | Path) else opened.network.name
    if not opened.classes:
        raise InputError(f"{name} {NO_CLASSES}")
    listening = _listening(host, port)
    with listening:
        served = ServedModel(
            name=name,
            engine=open_engine(opened, engine, device=device, threads=threads),
            preprocess=opened.preprocess,
            classes=opened.classes,
            network=opened.network.name,
            exact=exact,
            embedder=open_engine(opened, engine, "embeddings", device=device, threads=threads)
            if embeddings
            else None,
        )
        size = warmed_up(served, opened.digest, max_batch_size)
        limits = Limits(
            max_batch_size=size,
            max_queue_delay=max_queue_delay,
            max_queue_size=max_queue_size,
            max_body_bytes=max_body_bytes,
        )
        app = create_app(
            served,
            limits,
            topk=min(topk, len(opened.classes)),
            fetcher=UrlFetcher() if allow_url else None,
            cors_origins=cors_origins,
            otlp=True,
        )
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=30)
        server = uvicorn.Server(config)
        facts = served.engine.to_dict()
        where = f"http://{host}:{listening.getsockname()[1]}"
        on_start(f"{where} serves {served.name} ({served.network}), {facts['engine']} "
             f"{facts['precision']}")  # fmt: skip
        server.run([listening])


def warmed_up(model: ServedModel, digest: str, max_batch_size: int | None) -> int:
    """Choose the engines' streams, compute a first image both ways, and return the number of images
    of a batch: if it is not given, the fastest of ``DEFAULT_SIZES``."""
    engine, facts = model.engine, model.preprocess
    if engine.options.cuts:
        return 1
    shape = (facts.size, facts.size, facts.channel_count)
    sizes = DEFAULT_SIZES if max_batch_size is None else (max_batch_size,)
    size = tuned(engine, shape, digest, sizes)
    engines = [engine]
    if (embedder := model.embedder) is not None:
        embedder.streams = engine.streams
        engines.append(embedder)
    black = np.zeros((1, *shape), np.uint8)
    for one in engines:
        for shared in (False, True):
            one.answer(black, shared=shared)
    return size


def _listening(host: str, port: int) -> socket.socket:
    """A bound socket, so that errors occur before the network is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen(512)
    except OSError as error:
        found.close()
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"cannot listen on {host}:{port}: {reason}; use another host or port",
            field=("host", "port"),
        ) from None
    return found

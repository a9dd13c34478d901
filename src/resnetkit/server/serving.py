"""Runs the HTTP server."""

from __future__ import annotations

import socket
from collections.abc import Callable
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
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from resnetkit.server.served_model import ServedModel

#: Sizes of a batch that are tried: larger ones make every request wait.
DEFAULT_SIZES = (1, 4, 8)


def serve(
    model: Bundle | Exported | str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    grpc_port: int | None = None,
    engine: EngineName = "auto",
    device: str | None = None,
    threads: int | None = None,
    topk: int = 5,
    exact: bool = False,
    max_batch_size: int | None = None,
    max_queue_delay: float = 0.0,
    max_queue_size: int = 256,
    max_body_bytes: int = 32 << 20,
    on_start: Callable[[str], None] = print,
) -> None:
    """Serve ``model`` until SIGTERM or SIGINT; SIGINT raises ``KeyboardInterrupt``.

    ``exact`` makes pixels bit-equal to torchvision's, otherwise a faster path is used. A batch has
    at most ``max_batch_size`` images, by default the fastest number up to 8, which is measured once
    for a model and machine, and waits ``max_queue_delay`` seconds for more. At most
    ``max_queue_size`` images may wait. A request has at most ``max_body_bytes``, an answer ``topk``
    classes per image. The Open Inference Protocol is served over HTTP, and also over gRPC if
    ``grpc_port`` is given; 0 picks a free port. ``on_start`` is called with one line when the
    server is ready.

    Raises ``ValueError`` for an unusable model or engine, a missing extra, and an address in use.

    >>> resnetkit.serve(model, port=0)
    http://127.0.0.1:... serves model (resnet20), openvino fp32
    """
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        check_installed(package, "serving")
    if grpc_port is not None:
        check_installed("grpc", "gRPC")
    import uvicorn

    from resnetkit.server.application import create_app
    from resnetkit.server.served_model import Limits, ServedModel

    opened = as_model(model)
    name = short_name(model) if isinstance(model, str | Path) else opened.network.name
    if not opened.classes:
        raise InputError(f"{name} {NO_CLASSES}")
    listening = _listening(host, port)
    with listening:
        address = None if grpc_port is None else _unused(host, grpc_port)
        served = ServedModel(
            name=name,
            engine=open_engine(opened, engine, device=device, threads=threads),
            preprocess=opened.preprocess,
            classes=opened.classes,
            network=opened.network.name,
            exact=exact,
        )
        size = warmed_up(served, opened.digest, max_batch_size)
        limits = Limits(
            max_batch_size=size,
            max_queue_delay=max_queue_delay,
            max_queue_size=max_queue_size,
            max_body_bytes=max_body_bytes,
        )
        topk = min(topk, len(opened.classes))
        app = create_app(served, limits, topk=topk, grpc_address=address)
        facts = served.engine.to_dict()
        where = f"http://{host}:{listening.getsockname()[1]}"
        line = (f"{where} serves {served.name} ({served.network}), {facts['engine']} "
                f"{facts['precision']}" + (f", gRPC on {address}" if address else ""))  # fmt: skip
        announced = _announced(app, lambda: on_start(line))
        config = uvicorn.Config(announced, log_level="warning", timeout_graceful_shutdown=30)
        uvicorn.Server(config).run([listening])


def _announced(app: ASGIApp, tell: Callable[[], None]) -> ASGIApp:
    """The application, which calls ``tell`` when it has started."""

    async def announcing(scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                tell()

        await app(scope, receive, watched if scope["type"] == "lifespan" else send)

    return announcing


def warmed_up(model: ServedModel, digest: str, max_batch_size: int | None) -> int:
    """Choose the engine's streams, compute a first image both ways, and return the number of images
    of a batch: if it is not given, the fastest of ``DEFAULT_SIZES``."""
    engine, facts = model.engine, model.preprocess
    if engine.options.cuts:
        return 1
    shape = (facts.size, facts.size, facts.channel_count)
    sizes = DEFAULT_SIZES if max_batch_size is None else (max_batch_size,)
    size = tuned(engine, shape, digest, sizes)
    black = np.zeros((1, *shape), np.uint8)
    for shared in (False, True):
        engine.answer(black, shared=shared)
    return size


def _unused(host: str, port: int) -> str:
    """The address ``HOST:PORT`` for gRPC, which binds it once the network is loaded."""
    with _listening(host, port, "grpc_port") as found:
        port = found.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listening(host: str, port: int, field: str = "port") -> socket.socket:
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
            f"cannot listen on {host}:{port}: {reason}; use another host or {field}",
            field=("host", field),
        ) from None
    return found

"""Runs the HTTP server."""

from __future__ import annotations

import socket
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from resnetkit.errors import InputError, check_installed
from resnetkit.inference.engines.engine import EngineName
from resnetkit.server.connections import BACKLOG
from resnetkit.server.model_source import Model, ServingOptions, model_sources


def serve(
    models: Model | Sequence[Model] | Mapping[str, Model],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    grpc_port: int | None = None,
    uds: str | Path | None = None,
    workers: int | None = None,
    root_path: str = "",
    engine: EngineName = "auto",
    device: str | None = None,
    threads: int | None = None,
    topk: int = 5,
    exact: bool = False,
    watch: float | None = None,
    max_batch_size: int | None = None,
    max_queue_delay: float = 0.0,
    max_queue_size: int = 256,
    max_body_bytes: int = 32 << 20,
    embeddings: bool = False,
    inspect: bool = False,
    allow_url: bool = False,
    cors_origins: Sequence[str] = (),
    api_keys: Mapping[str, str] | str | Path | None = None,
    insecure: bool = False,
    max_requests_per_client: int | None = None,
    access_log: bool = False,
    grace: float = 30.0,
    on_start: Callable[[str], None] = print,
    on_event: Callable[[str], None] = print,
) -> None:
    """Serve ``models`` until SIGINT, which raises ``KeyboardInterrupt``, or SIGTERM,
    which raises ``SystemExit``.

    Several models have the names of their files, or those of a mapping, ``{"NAME": model}``, also
    with versions, ``{"NAME@2": model}``; the first is the default. ``uds`` is the path of a Unix
    socket, in place of ``host`` and ``port``; ``root_path`` the path under which a proxy shows the
    server. ``workers`` processes share the address and the CPUs, and one that dies is started
    again; by default this process serves. With ``watch`` the files are looked at every so many
    seconds, and a changed one is opened, checked, warmed up and exchanged, without losing a
    request; SIGHUP opens all anew.

    ``exact`` makes pixels bit-equal to torchvision's, otherwise a faster path is used. A batch has
    at most ``max_batch_size`` images, by default the fastest number up to 8, which is measured once
    for a model and machine, and waits ``max_queue_delay`` seconds for more. At most
    ``max_queue_size`` images may wait. A request has at most ``max_body_bytes``, an answer ``topk``
    classes per image. The Open Inference Protocol is served over HTTP, and also over gRPC if
    ``grpc_port`` is given; 0 picks a free port. ``on_start`` is called with one line when the
    server is ready, ``on_event`` for each model that is replaced, each worker that died, and the
    end.

    ``embeddings`` are served too, by a second engine of the same network. With ``inspect``, the
    page ``/view`` opens the first model, a bundle, and shows what its stages and blocks make of a
    picture. With ``allow_url``, requests may have URLs of images, which the server fetches from
    public addresses. Pages of ``cors_origins`` (``https://host``, or ``*`` for all) may use the
    server from a browser. Traces are sent as the standard variables ``OTEL_*`` of OpenTelemetry
    say, by default nowhere.

    ``host`` is an address of this machine only, unless ``api_keys`` are given (key by name, or a
    file with ``NAME:KEY`` lines) or ``insecure`` is true. A client (a key, or without keys an
    address) has at most ``max_requests_per_client`` requests in progress, by default any number.
    ``access_log`` prints a line per request to stderr. After the signal, what was received is
    answered, and the end comes within ``grace`` seconds.

    Raises ``ValueError`` for an unusable model or engine, a missing extra, an address in use, an
    unusable file of keys, and another ``host`` without keys.

    >>> resnetkit.serve(model, port=0)
    http://127.0.0.1:... serves model (resnet20), openvino fp32
    """
    if sys.platform == "win32":
        raise InputError("the server needs Linux or macOS; on Windows, use WSL or a container")
    for package in ("fastapi", "uvicorn", "prometheus_client", "httpcore"):
        check_installed(package, "serving")
    if grpc_port is not None:
        check_installed("grpc", "gRPC")
    from resnetkit.server.access import Access
    from resnetkit.server.api_keys import check_exposure, read_api_keys
    from resnetkit.server.served_model import Limits
    from resnetkit.server.supervisor import supervise
    from resnetkit.server.tracing import check_exporter
    from resnetkit.server.worker import Settings, orderly_end, run

    check_exporter()
    if uds is None or grpc_port is not None:
        check_exposure(host, api_keys is not None or insecure)
    access = Access(
        api_keys={} if api_keys is None else read_api_keys(api_keys),
        max_requests_per_client=max_requests_per_client,
        log=access_log,
        cors_origins=cors_origins,
    )
    at = _listening(host, port) if uds is None else _listening_at(Path(uds))
    with orderly_end(), at as listening:
        settings = Settings(
            where=f"unix:{uds}" if uds else f"http://{host}:{listening.getsockname()[1]}",
            sources=model_sources(models),
            options=ServingOptions(
                engine=engine,
                device=device,
                threads=threads,
                exact=exact,
                max_batch_size=max_batch_size,
                embeddings=embeddings,
                inspect=inspect,
            ),
            limits=Limits(
                max_queue_delay=max_queue_delay,
                max_queue_size=max_queue_size,
                max_body_bytes=max_body_bytes,
            ),
            topk=topk,
            root_path=root_path,
            grpc_address=None if grpc_port is None else _unused(host, grpc_port),
            watch=watch,
            allow_url=allow_url,
            access=access,
            grace=grace,
        )
        if workers is None:
            run(settings, listening, on_start=on_start, say=on_event)
        else:
            supervise(settings, listening, workers, on_start=on_start, say=on_event)


def _unused(host: str, port: int) -> str:
    """The address ``HOST:PORT`` for gRPC, which binds it once the models are open."""
    with _listening(host, port, "grpc_port") as found:
        port = found.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextmanager
def _listening(host: str, port: int, field: str = "port") -> Iterator[socket.socket]:
    """A bound socket, so that errors occur before a network is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, port))
            found.listen(BACKLOG)
        except OSError as error:
            raise InputError(
                f"cannot listen on {host}:{port}: {_reason(error)}; use another host or {field}",
                field=("host", field),
            ) from None
        yield found


@contextmanager
def _listening_at(path: Path) -> Iterator[socket.socket]:
    """A bound Unix socket, which is removed at the end; one left by a dead process is replaced."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as found:
        try:
            if _is_abandoned(path):
                path.unlink()
            found.bind(str(path))
            found.listen(BACKLOG)
        except OSError as error:
            raise InputError(
                f"cannot listen on {path}: {_reason(error)}; use another path", field="uds"
            ) from None
        mine = path.stat().st_ino
        try:
            yield found
        finally:
            with suppress(OSError):
                if path.stat().st_ino == mine:
                    path.unlink()


def _is_abandoned(path: Path) -> bool:
    """Whether a socket lies here where nobody listens."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()

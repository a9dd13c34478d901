"""A server of the Open Inference Protocol, Triton's clients of it, and their inputs."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
import uvicorn
from test_application import jpeg, served_of
from test_model_repository import raised

import resnetkit
from resnetkit.data.decoding import fast_decode
from resnetkit.inference.engines.selection import open_engine
from resnetkit.server.application import create_app
from resnetkit.server.served_model import Limits

CLASSES = ("cat", "dog", "owl", "emu")
BODIES = [jpeg(seed, (40 + seed, 50)) for seed in range(3)]
LIMITS = Limits(max_batch_size=4, max_queue_size=16, max_body_bytes=200_000, max_files=6)


@dataclass
class Served:
    """A server, a client of each kind, and what the engines answer to ``BODIES``."""

    url: str
    address: str
    clients: dict[str, tuple[ModuleType, Any]]
    pixels: np.ndarray
    logits: np.ndarray
    embeddings: np.ndarray

    @property
    def probabilities(self) -> np.ndarray:
        shares = np.exp(self.logits - self.logits.max(1, keepdims=True))
        return shares / shares.sum(1, keepdims=True)

    @property
    def ranks(self) -> np.ndarray:
        return np.argsort(-self.logits, axis=1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@contextmanager
def running(app: Any) -> Iterator[str]:
    """An application in uvicorn, on a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def protocol_serving(bundle_file: Path) -> Iterator[Served]:
    """A server of three models, the first of which has embeddings."""
    bundle = resnetkit.load(bundle_file)
    embedder = open_engine(bundle, "torch", "embeddings")
    first = replace(served_of(bundle), embedder=embedder)
    others = [
        replace(served_of(raised(bundle, place)), name="other", version=version)
        for place, version in ((1, "1"), (2, "2"))
    ]
    pixels = np.array([fast_decode.pixels_of(b, bundle.preprocess, torch=False) for b in BODIES])
    address = f"127.0.0.1:{free_port()}"
    with (
        running(create_app([first, *others], LIMITS, topk=2, grpc_address=address)) as host,
        tritonclient.http.InferenceServerClient(host, concurrency=4) as http,
        tritonclient.grpc.InferenceServerClient(address) as remote,
    ):
        yield Served(
            url=f"http://{host}",
            address=address,
            clients={"http": (tritonclient.http, http), "grpc": (tritonclient.grpc, remote)},
            pixels=pixels,
            logits=first.engine.answer(pixels),
            embeddings=embedder.answer(pixels),
        )


def image_input(kind: ModuleType, bodies: list[bytes] = BODIES) -> Any:
    tensor = kind.InferInput("image", [len(bodies)], "BYTES")
    tensor.set_data_from_numpy(np.array(bodies, np.object_))
    return tensor


def pixels_input(kind: ModuleType, pixels: np.ndarray) -> Any:
    tensor = kind.InferInput("pixels", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels)
    return tensor


def one(kind: ModuleType, **changes: Any) -> Any:
    """An input of one image, with some fields changed."""
    fields = {"name": "image", "shape": [1], "datatype": "BYTES", **changes}
    tensor = kind.InferInput(fields["name"], fields["shape"], fields["datatype"])
    data = np.full(fields["shape"], BODIES[0], np.object_)
    if fields["datatype"] == "UINT8":
        data = np.zeros(fields["shape"], np.uint8)
    tensor.set_data_from_numpy(data)
    return tensor

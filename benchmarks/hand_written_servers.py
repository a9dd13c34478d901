"""Servers as people write them by hand, for `server.py`: POST a form with one file to /predict.

.venv/bin/python benchmarks/hand_written_servers.py NAME PORT FOLDER NETWORK PRECISION
"""

import asyncio
import io
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import openvino
import PIL.Image
import uvicorn
from fastapi import FastAPI, Request, UploadFile

TOPK = 5


def pixels_of(body: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The square that the graph takes: torchvision's transforms of a PIL image, in Pillow."""
    picture = PIL.Image.open(io.BytesIO(body)).convert("RGB")
    scale = 256 / min(picture.size)
    picture = picture.resize((int(picture.width * scale), int(picture.height * scale)), 2)
    left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
    return np.asarray(picture.crop((left, top, left + 224, top + 224)))[None]


def answer(logits: Any) -> dict[str, Any]:
    """The best classes, as JSON."""
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    best = np.argsort(-shares)[:TOPK]
    return {"predictions": [{"label": f"c{n}", "probability": float(shares[n])} for n in best]}


def compiled(folder: Path, network: str, precision: str) -> Any:
    """The graph that `resnetkit export` wrote, for throughput."""
    model = openvino.Core().read_model(folder / f"{network}-{precision}.xml")
    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(model, "CPU", hints)


class TorchvisionAPI(litserve.LitAPI):
    """(a) LitServe and torchvision's module, batched."""

    def __init__(self, network: str) -> None:
        super().__init__(max_batch_size=8, batch_timeout=0.005, api_path="/predict")
        self.network = network

    def setup(self, device: str) -> None:
        import torch
        import torchvision
        from torchvision.transforms._presets import ImageClassification

        self.torch = torch
        self.model = getattr(torchvision.models, self.network)(weights=None).eval()
        self.transform = ImageClassification(crop_size=224)

    def decode_request(self, request: Request) -> Any:
        return self.transform(PIL.Image.open(request["files"].file).convert("RGB"))

    def batch(self, inputs: Any) -> Any:
        return self.torch.stack(inputs)

    def predict(self, x: Any) -> Any:
        with self.torch.inference_mode():
            return self.model(x).numpy()

    def unbatch(self, output: Any) -> Any:
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return answer(output)


class OpenVINOAPI(litserve.LitAPI):
    """(b) LitServe, the same graph in an AsyncInferQueue, decoding in threads."""

    def __init__(self, *graph: Any) -> None:
        super().__init__(max_batch_size=8, batch_timeout=0.005, api_path="/predict")
        self.graph = graph

    def setup(self, device: str) -> None:
        self.queue = openvino.AsyncInferQueue(compiled(*self.graph))
        self.threads = ThreadPoolExecutor(2)

    def decode_request(self, request: Request) -> bytes:
        body: bytes = request["files"].file.read()
        return body

    def batch(self, inputs: Any) -> Any:
        return inputs

    def predict(self, bodies: list[bytes]) -> Any:
        found: dict[int, Any] = {}
        self.queue.set_callback(
            lambda request, number: found.update(
                {number: request.get_output_tensor().data[0].copy()}
            )
        )
        for number, pixels in enumerate(self.threads.map(pixels_of, bodies)):
            self.queue.start_async([pixels], number)
        self.queue.wait_all()
        return [found[number] for number in range(len(bodies))]

    def unbatch(self, output: Any) -> Any:
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        return answer(output)


def serve_lit(api: litserve.LitAPI, port: int) -> None:
    """Run an API with the defaults of LitServe."""
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


def serve_fastapi(port: int, *graph: Any) -> None:
    """(c) FastAPI in twenty lines, the same graph in an AsyncInferQueue, decoding in threads."""
    queue = openvino.AsyncInferQueue(compiled(*graph))
    threads, app, one = ThreadPoolExecutor(2), FastAPI(), threading.Lock()

    def finished(request: Any, waiting: tuple[Any, Any]) -> None:
        loop, future = waiting
        loop.call_soon_threadsafe(future.set_result, request.get_output_tensor().data[0].copy())

    queue.set_callback(finished)

    def compute(body: bytes, loop: Any, future: Any) -> None:
        pixels = pixels_of(body)
        with one:
            queue.start_async([pixels], (loop, future))

    @app.post("/predict")
    async def predict(files: UploadFile) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        future: Any = loop.create_future()
        await loop.run_in_executor(threads, partial(compute, await files.read(), loop, future))
        return answer(await future)

    uvicorn.run(app, port=port, log_level="warning")


#: The graph is that of `resnetkit export`; torchvision has random weights.
NAMES = ("LitServe, torchvision", "LitServe, OpenVINO", "FastAPI, OpenVINO")

if __name__ == "__main__":
    name, number, folder, network, precision = sys.argv[1:]
    graph = (Path(folder), network, precision)
    if name == NAMES[0]:
        serve_lit(TorchvisionAPI(network), int(number))
    elif name == NAMES[1]:
        serve_lit(OpenVINOAPI(*graph), int(number))
    else:
        serve_fastapi(int(number), *graph)

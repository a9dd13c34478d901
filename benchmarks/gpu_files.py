"""The parts of `gpu.py` about JPEG files: decoding, and the server."""

from __future__ import annotations

import http.client
import importlib
import importlib.util
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

import resnetkit
from gpu_steps import ours as training_steps
from gpu_steps import recipe_of
from gpu_timing import (
    Contender,
    NotPossibleError,
    Setting,
    one_line,
    race,
    seconds_of,
)
from resnetkit import Preprocess
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.decoding.decode import pixels_of
from resnetkit.data.prefetch import ordered, readers
from resnetkit.training.data.data_loader import DataLoader, LoaderOptions
from resnetkit.training.recipe.augmentation import Augment
from resnetkit.training.step.loss import criterion_of
from resnetkit.training.step.model_setup import freshly_built
from resnetkit.training.step.optimization_step import Score, StepOptions, placed, train_step
from resnetkit.training.step.optimizer import optimizer_of

# -------------------------------------------------------------------------- (5) decoding


def jpeg_files(folder: Path, count: int, different: int) -> Path:
    """``count`` JPEG files of 500x375 in two class folders, ``different`` of them drawn: smooth
    noise with some grain, of about the size of photographs."""
    places = [folder / "jpeg" / name for name in ("a", "b")]
    for place in places:
        place.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(count):
        path = places[number % 2] / f"{number:05}.jpg"
        if number >= different:
            same = number % different
            shutil.copyfile(places[same % 2] / f"{same:05}.jpg", path)
            continue
        coarse = PIL.Image.fromarray(draw.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), PIL.Image.Resampling.BICUBIC), np.int16)
        grain = draw.integers(-12, 13, smooth.shape, dtype=np.int16)
        picture = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        PIL.Image.fromarray(picture).save(path, quality=90)
    return folder / "jpeg"


def decoding(setting: Setting) -> None:
    """Decoders alone, the card's rate alone, and steps that are fed from files."""
    small = setting.miniature
    name, size, batch = ("resnet18", 32, 8) if small else ("resnet50", 224, 256)
    count, different = (24, 8) if small else (1024, 128)
    source = jpeg_files(setting.folder, count, different)
    samples = open_dataset(source).flat
    paths = sorted(source.rglob("*.jpg"))
    table = f"{count} JPEG files of 500x375, {sum(p.stat().st_size for p in paths) // count} bytes"
    device = setting.device
    preprocess = Preprocess(size=size, resize_to=size * 8 // 7)
    for threads in sorted({1, 4, readers(), 16}):
        began = time.perf_counter()
        part = samples if threads > 1 else samples[: count // 4]
        for _ in ordered(lambda one: pixels_of(one.image, preprocess), part, threads=threads):
            pass
        rate = len(part) / (time.perf_counter() - began)
        setting.write(table, what=f"decoded and resized, {threads} threads", images_s=rate)
    try:
        setting.write(table, what="torchvision.io.decode_jpeg, nvjpeg", **nvjpeg(setting, paths))
    except Exception as error:
        setting.write(table, what="torchvision.io.decode_jpeg, nvjpeg", error=one_line(error))
    recipe = recipe_of(name, size, batch, str(device), precision="bf16", deterministic=False)
    alone = race(setting, [Contender(name="steps alone, images on the device", batch=batch,
                                     make=lambda: training_steps(recipe))],
                 rounds=3, seconds=0.1 if small else 1.0)[0]  # fmt: skip
    setting.write(table, **{k: alone[k] for k in ("what", "images_s", "error") if k in alone})
    options = LoaderOptions(batch_size=batch, augment=Augment(crop=0.35, flip=True), memory=0,
                            device=str(device))  # fmt: skip
    loader = DataLoader(samples, preprocess, options)
    began = time.perf_counter()
    for _ in loader.batches(0):
        pass
    made = count / (time.perf_counter() - began)
    setting.write(table, what=f"batches alone, {readers()} threads", images_s=made)
    fed = steps_fed(setting, loader, recipe, epochs=1 if small else 4)
    row: dict[str, Any] = {"what": "steps fed from the files", "images_s": fed}
    if "images_s" in alone:
        row["of_steps_alone"] = fed / alone["images_s"]
        row["bottleneck"] = "the files" if made < alone["images_s"] else "the steps"
    setting.write(table, **row)


def nvjpeg(setting: Setting, paths: list[Path]) -> dict[str, Any]:
    """Images a second of torchvision's decoder for whole batches on the device."""
    from torchvision.io import ImageReadMode, decode_jpeg, read_file

    data = [read_file(str(path)) for path in paths[:256]]
    if not setting.gpu:  # the same call, one by one
        took = seconds_of(lambda: [decode_jpeg(one, ImageReadMode.RGB) for one in data],
                          setting.device)  # fmt: skip
        return {"images_s": len(data) / took}
    decode_jpeg(data[:16], ImageReadMode.RGB, device=setting.device)
    found = [
        len(data) / seconds_of(
            lambda: decode_jpeg(data, ImageReadMode.RGB, device=setting.device), setting.device
        )
        for _ in range(3)
    ]  # fmt: skip
    return {"images_s": statistics.median(found), "least": min(found), "most": max(found)}


def steps_fed(setting: Setting, loader: DataLoader, recipe: Any, epochs: int) -> float:
    """Images a second of training steps on the loader's batches, after one of warm-up."""
    device = str(setting.device)
    module = freshly_built(recipe)
    optimizer, criterion = optimizer_of(module, recipe), criterion_of(recipe, [])
    score = Score()

    def once(epoch: int) -> None:
        for one in loader.batches(epoch):
            logits = train_step(module, placed(one.inputs, device), one.labels, optimizer,
                                criterion, StepOptions(bf16=True))  # fmt: skip
            score.add(logits, one.labels)

    once(0)
    before = score.images
    took = seconds_of(lambda: [once(1 + number) for number in range(epochs)], setting.device)
    return (score.images - before) / took


# ---------------------------------------------------------------------------- (6) server


def server(setting: Setting) -> None:
    """Requests a second of `resnetkit serve`, in a closed loop of threads of this process."""
    needed = ("fastapi", "httpcore", "python_multipart", "prometheus_client", "pydantic", "uvicorn")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise NotPossibleError(f"resnetkit serve needs {', '.join(missing)}; carry their wheels")
    name, size = ("resnet18", 32) if setting.miniature else ("resnet50", 224)
    bundle = setting.folder / "net.safetensors"
    resnetkit.Bundle.from_module(
        resnetkit.build(name), preprocess=Preprocess(size=size, resize_to=size * 8 // 7)
    ).save(bundle)
    source = jpeg_files(setting.folder, 32, 8 if setting.miniature else 32)
    bodies = [path.read_bytes() for path in sorted(source.rglob("*.jpg"))]
    engines = ("torch",) if setting.miniature else ("torch-bf16", "torch")
    for engine in engines:
        with serving(setting, bundle, engine) as port:
            for clients in (1, 2) if setting.miniature else (1, 8, 64):
                found = load(port, bodies, clients, 0.5 if setting.miniature else 2.0)
                setting.write(f"resnetkit serve, {name}, JPEG files of 500x375", engine=engine,
                              clients=clients, **found)  # fmt: skip


@contextmanager
def serving(setting: Setting, bundle: Path, engine: str) -> Iterator[int]:
    """A server that is ready: its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    words = ["serve", str(bundle), "--port", str(port), "--engine", engine,
             "--device", str(setting.device)]  # fmt: skip
    log = setting.folder / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "resnetkit", *words], stdout=stream, stderr=stream
        )
        try:
            while not is_ready(port):
                if process.poll() is not None:
                    said = log.read_text(errors="replace").strip().splitlines()
                    raise NotPossibleError(f"resnetkit serve: {said[-1] if said else 'ended'}")
                time.sleep(0.1)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def load(port: int, bodies: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """Each client sends the next file when it has its answer; half a second is not counted."""
    begin = time.monotonic() + 0.5
    end = begin + seconds
    times: list[float] = []
    errors: list[str] = []

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while (sent := time.monotonic()) < end:
            body = bodies[number % len(bodies)]
            number += clients
            try:
                connection.request("POST", "/predict", body, {"Content-Type": "image/jpeg"})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                errors.append(one_line(error))
                return
            if answer.status != 200:
                errors.append(f"status {answer.status}")
            elif sent >= begin:
                times.append(time.monotonic() - sent)
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    if not times:
        return {"error": errors[0] if errors else "no answer in time"}
    ordered_times = sorted(times)
    return {
        "requests_s": len(times) / seconds,
        "p50_ms": 1000 * statistics.median(times),
        "p99_ms": 1000 * ordered_times[min(len(times) - 1, len(times) * 99 // 100)],
        "errors": len(errors),
    }

"""Batches of what comes at the same time: nobody gets another's row, and nothing waits for ever."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnetkit.bundle.opening import open_model
from resnetkit.inference.engines.engine import EngineOptions, Output, Pixels, Rows
from resnetkit.inference.engines.selection import open_engine
from resnetkit.server.dynamic_batching import Batcher, BusyError


class Summing:
    """Answers the sum of an image's pixels, when it is let."""

    name, precision = "summing", "fp32"
    output: Output = "logits"
    options = EngineOptions()
    streams, ways = 1, (1,)

    def __init__(self) -> None:
        self.may, self.began = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def answer(self, pixels: Pixels, *, shared: bool = False) -> Rows:
        self.began.set()
        assert self.may.wait(20)
        self.sizes.append(len(pixels))
        if (pixels == 255).any():
            raise RuntimeError("broken")
        return pixels.reshape(len(pixels), -1).sum(1, dtype=np.float32)[:, None]

    def to_dict(self) -> dict[str, Any]:
        return {}


def image(value: int) -> Pixels:
    return np.full((2, 2, 1), value, np.uint8)


def test_each_gets_its_own_row_and_batches_are_full() -> None:
    engine = Summing()
    seen: list[tuple[str, float]] = []
    observe = lambda *measured: seen.append(measured)  # noqa: E731
    with Batcher(engine, max_batch_size=4, observe=observe) as batcher:
        first = batcher.submit(image(1))
        assert engine.began.wait(20)
        rest = [batcher.submit(image(value)) for value in range(2, 11)]
        assert batcher.queue_size == 9
        engine.may.set()
        found = [float(one.result(20)[0]) for one in (first, *rest)]
    assert found == [4.0 * value for value in range(1, 11)]
    assert engine.sizes == [1, 4, 4, 1]
    assert [value for name, value in seen if name == "batch"] == [1, 4, 4, 1]
    assert len([value for name, value in seen if name == "queue"]) == 10
    assert len([value for name, value in seen if name == "compute"]) == 4
    assert all(0 < value < 60 for _, value in seen)


def test_a_queue_delay_gathers_a_batch() -> None:
    engine = Summing()
    engine.may.set()
    with Batcher(engine, max_batch_size=3, max_queue_delay=20) as batcher:
        futures = [batcher.submit(image(value)) for value in (1, 2, 3)]
        assert [float(one.result(10)[0]) for one in futures] == [4, 8, 12]
    assert engine.sizes == [3]


def test_too_many_are_refused_and_closing_answers_what_waits() -> None:
    engine = Summing()
    batcher = Batcher(engine, max_batch_size=1, max_queue_size=2)
    first = batcher.submit(image(1))
    assert engine.began.wait(20)
    waiting = [batcher.submit(image(2)), batcher.submit(image(3))]
    with pytest.raises(BusyError, match="2 images are already waiting"):
        batcher.submit(image(4))
    engine.may.set()
    batcher.close()
    assert [float(one.result(0)[0]) for one in (first, *waiting)] == [4, 8, 12]
    with pytest.raises(BusyError, match="shutting down"):
        batcher.submit(image(5))
    batcher.close()


def test_a_failing_batch_fails_alone_and_what_is_cancelled_is_not_computed() -> None:
    engine = Summing()
    with Batcher(engine, max_batch_size=1) as batcher:
        broken = batcher.submit(image(255))
        assert engine.began.wait(20)
        cancelled, fine = batcher.submit(image(1)), batcher.submit(image(2))
        assert cancelled.cancel()
        engine.may.set()
        assert float(fine.result(20)[0]) == 8
        with pytest.raises(RuntimeError, match="broken"):
            broken.result(20)
    assert engine.sizes == [1, 1]


@pytest.mark.parametrize("streams", [1, 3])
def test_a_failing_batch_among_others_fails_alone(streams: int) -> None:
    engine = Summing()
    engine.streams = streams
    with Batcher(engine, max_batch_size=1) as batcher:
        futures = [batcher.submit(image(value)) for value in (1, 2, 255, 3, 4)]
        engine.may.set()
        assert [float(futures[n].result(20)[0]) for n in (0, 1, 3, 4)] == [4, 8, 12, 16]
        with pytest.raises(RuntimeError, match="broken"):
            futures[2].result(20)


class Timed(Summing):
    """Streams are ``streams`` times slower than all threads."""

    def __init__(self, streams: int) -> None:
        super().__init__()
        self.streams = streams
        self.may.set()
        self.shared: list[bool] = []
        self.at_once, self.most, self.lock = 0, 0, threading.Lock()

    def answer(self, pixels: Pixels, *, shared: bool = False) -> Rows:
        with self.lock:
            self.shared.append(shared)
            self.at_once += shared
            self.most = max(self.most, self.at_once)
        time.sleep(0.02 * (self.streams if shared else 1))
        with self.lock:
            self.at_once -= shared
        return super().answer(pixels)


def test_few_images_are_computed_with_all_threads_and_many_in_streams() -> None:
    engine = Timed(8)
    with Batcher(engine, max_batch_size=4) as batcher:
        start = time.monotonic()
        for future in [batcher.submit(image(value)) for value in range(6)]:
            future.result(20)
        assert time.monotonic() - start < 8 * 0.02 * 2
        assert not any(engine.shared), "one thread per image would take 8 times as long"
        many = [batcher.submit(image(value)) for value in range(200)]
        assert [float(one.result(20)[0]) for one in many] == [4.0 * value for value in range(200)]
        assert engine.most > 4
        assert engine.shared.count(True) > engine.shared.count(False)


def test_all_streams_are_used_before_batches_grow() -> None:
    engine = Timed(2)
    engine.may.clear()
    with Batcher(engine, max_batch_size=8) as batcher:
        futures = [batcher.submit(image(0))]
        assert engine.began.wait(20)
        futures += [batcher.submit(image(value)) for value in range(1, 5)]
        engine.may.set()
        assert [float(one.result(20)[0]) for one in futures] == [0, 4, 8, 12, 16]
    assert engine.sizes == [1, 2, 2]


@pytest.mark.parametrize("name", ["openvino", "onnxruntime", "torch"])
def test_engines_give_each_its_row_whatever_the_load(name: str, bundle_file: Path) -> None:
    """Alone, in streams, and in a stream that ends while others wait."""
    engine = open_engine(open_model(bundle_file), name)
    engine.streams = max(engine.ways)
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(60)]
    wanted = engine.answer(np.stack(images))
    with Batcher(engine, max_batch_size=4) as batcher:
        futures = []
        for number, one in enumerate(images):
            futures.append(batcher.submit(one))
            if number % 9 == 0:
                time.sleep(0.02)
        found = np.stack([one.result(20) for one in futures])
    assert np.allclose(found, wanted, atol=1e-4)
    assert not np.allclose(found[0], wanted[1], atol=1e-2)


def test_rows_that_are_missing_fail_their_batch_and_nothing_waits_for_ever() -> None:
    class Lossy(Summing):
        def answer(self, pixels: Pixels, *, shared: bool = False) -> Rows:
            return super().answer(pixels)[1:]

    engine = Lossy()
    engine.may.set()
    with Batcher(engine) as batcher:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="the engine gave 0 rows for 1 images"):
                batcher.submit(image(1)).result(20)
        streamed = [batcher.submit(image(1)) for _ in range(30)]
        assert {type(one.exception(20)) for one in streamed} == {RuntimeError}

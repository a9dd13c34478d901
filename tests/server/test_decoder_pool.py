"""Decoders are processes: their pixels are those of `predict`, and one that hangs is replaced."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from test_application import TestClient, jpeg, served_of

import resnetkit
from resnetkit.data.decoding import decode, fast_decode
from resnetkit.data.decoding.decode import UnreadableImageError
from resnetkit.preprocess import Preprocess
from resnetkit.server.application import create_app
from resnetkit.server.decoder_pool import DecoderPool
from resnetkit.server.served_model import Limits

FACTS = Preprocess(size=32, resize_to=36)


def children() -> set[int]:
    """The decoders that this process has started."""
    own = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = {int(pid) for path in own for pid in path.read_text().split()}
    return {pid for pid in pids if b"decoder_process" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    before = children()
    pool = DecoderPool(2, 1.5)
    yield pool
    pool.close()
    assert children() == before


def test_the_same_pixels(pool: DecoderPool) -> None:
    grey = Preprocess(size=32, resize_to=36, channels="L", mean=(0.5,), std=(0.5,))
    for image in (jpeg(1, (300, 400)), png(np.random.default_rng(0).integers(0, 256, (70, 50, 3),
                                                                           np.uint8))):  # fmt: skip
        for facts in (FACTS, grey):
            for way, wanted in {
                "exact": decode.pixels_of(image, facts),
                "fast": fast_decode.pixels_of(image, facts, torch=False),
                "whole": decode.whole(image, facts),
            }.items():
                found = pool.decode(image, facts, way)
                assert found.dtype == np.uint8
                np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("image", [b"", b"no image", jpeg(0)[:300], b"II*\0" + b"x" * 50])
def test_the_same_reasons(image: bytes, pool: DecoderPool) -> None:
    with pytest.raises(UnreadableImageError) as direct:
        decode.pixels_of(image, FACTS)
    with pytest.raises(UnreadableImageError) as found:
        pool.decode(image, FACTS, "exact")
    assert found.value.reason == direct.value.reason
    assert pool.decode(jpeg(0), FACTS, "fast").shape == (32, 32, 3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_all_processes_of_a_server_do_not_end_them(
    number: signal.Signals, pool: DecoderPool
) -> None:
    """A terminal and systemd send them; the server finishes what it has taken."""
    assert pool.decode(jpeg(0), FACTS, "fast").shape == (32, 32, 3)
    decoder = pool._idle.queue[0]
    os.kill(decoder.pid, number)
    time.sleep(0.1)
    assert pool.decode(jpeg(0), FACTS, "fast").shape == (32, 32, 3)
    assert pool._idle.queue[0] is decoder


def test_one_that_hangs_or_dies_is_replaced(pool: DecoderPool) -> None:
    assert pool.decode(jpeg(0), FACTS, "fast").shape == (32, 32, 3)
    first = pool._idle.queue[0].pid
    os.kill(first, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(UnreadableImageError, match=r"it takes longer than 1\.5 s to decode"):
        pool.decode(jpeg(0), FACTS, "fast")
    assert time.monotonic() - began < 20
    assert pool.decode(jpeg(0), FACTS, "fast").shape == (32, 32, 3)
    second = pool._idle.queue[0].pid
    assert second != first
    # One that dies while it is idle costs no request.
    os.kill(second, signal.SIGKILL)
    while pool._idle.queue[0].runs:
        time.sleep(0.01)
    assert pool.decode(jpeg(0), FACTS, "fast").shape == (32, 32, 3)
    third = pool._idle.queue[0].pid
    assert third != second
    os.kill(third, signal.SIGSTOP)
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(pool.decode, jpeg(0), FACTS, "fast")
        time.sleep(0.3)
        os.kill(third, signal.SIGKILL)
        with pytest.raises(UnreadableImageError, match="its decoder crashed"):
            asked.result()


def test_memory_is_bounded() -> None:
    large = png(np.zeros((5000, 4000, 3), np.uint8))
    pool = DecoderPool(1, 30, memory=100 << 20)
    try:
        with pytest.raises(UnreadableImageError, match="there is not enough memory for it"):
            pool.decode(large, FACTS, "fast")
        assert pool.decode(jpeg(0), FACTS, "fast").shape == (32, 32, 3)
    finally:
        pool.close()


def test_images_of_very_many_pixels_take_turns() -> None:
    large = png(np.full((4200, 4100, 3), 9, np.uint8))
    pool = DecoderPool(2, 60)
    try:
        with ThreadPoolExecutor() as threads, pool._large:
            asked = [threads.submit(pool.decode, large, FACTS, "fast") for _ in range(2)]
            time.sleep(1)
            assert not any(one.done() for one in asked)
            pool._large.release()
            try:
                for one in asked:
                    assert (one.result() == 9).all()
            finally:
                pool._large.acquire()
    finally:
        pool.close()


def test_the_server_answers_others_while_a_decoder_hangs(bundle_file: Path) -> None:
    limits = Limits(decode_threads=2, max_decode_seconds=5)
    served = served_of(resnetkit.load(bundle_file))
    before = children()
    with TestClient(create_app(served, limits)) as client, ThreadPoolExecutor() as clients:
        assert client.post("/predict", content=jpeg(1)).status_code == 200
        [first] = children() - before
        os.kill(first, signal.SIGSTOP)
        asked = [clients.submit(client.post, "/predict", content=jpeg(n)) for n in range(4)]
        done, waiting = wait(asked, return_when=FIRST_COMPLETED)
        assert {one.result().status_code for one in done} == {200}
        assert waiting, "one is given to the decoder that hangs"
        answers = [one.result() for one in asked]
        assert sorted(one.status_code for one in answers) == [200, 200, 200, 422]
        [refused] = [one for one in answers if one.status_code == 422]
        assert "it takes longer than 5 s to decode" in refused.text
        assert client.post("/predict", content=jpeg(1)).status_code == 200


def test_decoders_end_with_their_parent() -> None:
    program = (
        "import os, signal, sys; from resnetkit.server.decoder_pool import DecoderPool; "
        "pool = DecoderPool(1, 5); print(pool._idle.queue[0].pid, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.05)
    else:
        pytest.fail("it still runs")

"""Several workers: one that dies is replaced, all end together, and their metrics are added."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest
from test_application import jpeg
from test_serve import serving

from resnetkit.cli.main import main

ENGINE = ("--engine", "onnxruntime", "--batch-size", 2)


def workers_of(supervisor: int) -> list[int]:
    """The processes of its workers, without multiprocessing's resource tracker."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    return [pid for pid, command in commands.items() if b"spawn_main" in command]


def gone(pids: list[int]) -> bool:
    """Whether processes end within some time. Those of another parent leave no zombies."""
    for _ in range(600):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


def answered(url: str) -> int:
    text = httpx.get(f"{url}/metrics").text
    return int(float(re.search(r'outcome="answered"} (\S+)', text)[1]))


def test_a_killed_worker_is_replaced(bundle_file: Path) -> None:
    with serving(bundle_file, "--workers", 2, *ENGINE) as (process, url):
        lost, told, done = list[str](), list[int](), threading.Event()

        def keep_asking() -> None:
            while not done.is_set():
                try:
                    told.append(httpx.post(f"{url}/predict", content=jpeg(0)).status_code)
                except httpx.TransportError as error:
                    lost.append(repr(error))

        clients = [threading.Thread(target=keep_asking) for _ in range(3)]
        for client in clients:
            client.start()
        try:
            while len(told) < 20:
                time.sleep(0.01)
            before = workers_of(process.pid)
            os.kill(before[1], signal.SIGKILL)
            line = process.stdout.readline()
            assert line == "worker 1 ended (SIGKILL) and is started again\n"
            while len(after := workers_of(process.pid)) < 2:
                time.sleep(0.01)
            assert (len(before), len(after), set(before) & set(after)) == (2, 2, {before[0]})
            count = len(told)
            while len(told) < count + 20:
                time.sleep(0.01)
        finally:
            done.set()
            for client in clients:
                client.join(60)
        assert set(told) == {200}
        assert len(lost) <= 3, "at most those that the killed one had taken"
        assert len(told) <= answered(url) <= len(told) + len(lost)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
        assert gone(after)


def test_a_killed_supervisor_ends_its_workers(bundle_file: Path) -> None:
    with serving(bundle_file, "--workers", 1, *ENGINE) as (process, url):
        assert httpx.get(f"{url}/health").status_code == 200
        workers = workers_of(process.pid)
        process.kill()
        process.wait()
        assert gone(workers)


def test_ctrl_c_reaches_all(bundle_file: Path) -> None:
    with serving(bundle_file, "--workers", 1, *ENGINE) as (process, _):
        workers = workers_of(process.pid)
        # A terminal sends it to all of them.
        for pid in [process.pid, *workers]:
            os.kill(pid, signal.SIGINT)
        assert process.wait(60) == 130
        assert gone(workers)


def test_workers_that_die_again_and_again(bundle_file: Path) -> None:
    with serving(bundle_file, "--workers", 1, *ENGINE) as (process, _):
        dead = set[int]()
        for _ in range(5):
            while not (new := set(workers_of(process.pid)) - dead):
                time.sleep(0.01)
            os.kill(new.pop(), signal.SIGKILL)
            dead |= set(workers_of(process.pid))
        assert process.wait(60) == 2


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    for words, line in [
        ([tmp_path / "bad.safetensors", "--workers", 2], "bad.safetensors is truncated or not"),
        ([tmp_path / "bad.safetensors", "--workers", 0], "--workers is 0; it must be at least 1"),
    ]:
        assert main(["serve", *map(str, words), "--port", "0"]) == 2
        told = capsys.readouterr().err
        assert line in told
        assert told.count("\n") == 1

"""`resnetkit serve` as a process: it lasts under silent clients, and ends in time in any state."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from test_application import jpeg

from live_server import answer, connect
from resnetkit.server.traffic import Traffic

HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\n"
pytestmark = pytest.mark.slow
ARGUMENTS = ("--engine", "torch", "--batch-size", "1", "--port", "0")


@contextmanager
def serving(*arguments: str | Path, files: str | None = None) -> Iterator[subprocess.Popen]:
    """A process that answers, with `address`; `files` are options that limit its open files."""
    command = [sys.executable, "-m", "resnetkit", "serve", *map(str, arguments), *ARGUMENTS]
    if files is not None:
        command = ["bash", "-c", f'ulimit {files} && exec "$0" "$@"', *command]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("http://127.0.0.1:"), line + process.stderr.read()
            process.address = ("127.0.0.1", int(line.split()[0].rpartition(":")[2]))
            yield process
        finally:
            process.kill()


def predict(address: tuple[str, int], body: bytes, **given: object) -> int:
    return httpx.post(f"http://127.0.0.1:{address[1]}/predict", content=body, **given).status_code


def stop(process: subprocess.Popen, number: int = signal.SIGTERM) -> tuple[float, str, str]:
    """The seconds that the process took to end, and what it printed."""
    began = time.monotonic()
    process.send_signal(number)
    process.wait(60)
    return time.monotonic() - began, process.stdout.read(), process.stderr.read()


def test_silent_connections_shut_nobody_out_of_few_files(bundle_file: Path) -> None:
    with serving(bundle_file, files="-n 160") as process:
        silent = [connect(process.address) for _ in range(400)]
        with ThreadPoolExecutor(8) as clients:
            found = list(clients.map(lambda n: predict(process.address, jpeg(n)), range(40)))
        assert found == [200] * 40
        for client in silent:
            client.close()
        _, _, errors = stop(process)
    assert errors == ""


def test_the_soft_limit_of_files_is_raised(bundle_file: Path) -> None:
    with serving(bundle_file, files="-Sn 200") as process:
        limits = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
        soft, hard = next(line for line in limits if "open files" in line).split()[3:5]
    assert int(soft) == min(int(hard), 65536) > 200


def test_idle_and_silent_connections_do_not_keep_it(bundle_file: Path) -> None:
    with serving(bundle_file, "--grace", "60") as process:
        silent = [connect(process.address) for _ in range(5)]
        silent[0].sendall(b"GET / HT")
        with httpx.Client(base_url=f"http://127.0.0.1:{process.address[1]}") as idle:
            assert idle.get("/ready").json() == {"ready": True}
            seconds, said, errors = stop(process)
        for client in silent:
            client.close()
    assert seconds < 30
    assert said == "stopping: 0 requests answered since the signal\n"
    assert errors == ""
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_taken_is_answered(bundle_file: Path, number: int) -> None:
    """A body that comes after the signal; meanwhile the server is not ready, and takes no more."""
    body = jpeg(0)
    with serving(bundle_file, "--grace", "20") as process:
        url = f"http://127.0.0.1:{process.address[1]}"
        with connect(process.address) as slow:
            slow.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body))
            slow.sendall(body[:100])
            time.sleep(0.2)
            process.send_signal(number)
            time.sleep(0.2)
            found = httpx.get(f"{url}/ready")
            assert (found.status_code, found.json()["ready"]) == (503, False)
            assert httpx.get(f"{url}/health").status_code == 200
            found = httpx.post(f"{url}/predict", content=body)
            assert (found.status_code, found.json()) == (503, {"detail": "the server is stopping"})
            assert "retry-after" in found.headers
            slow.sendall(body[100:])
            answered = answer(slow)
        assert process.wait(20) == 128 + number
        said = process.stdout.read()
    assert " 200 OK" in answered
    assert json.loads(answered.partition("\r\n\r\n")[2])["images"][0]["predictions"]
    assert said == "stopping: 1 request answered since the signal\n"


def test_requests_of_many_clients_are_answered_while_it_stops(bundle_file: Path) -> None:
    bodies = [("files", (f"{n}.jpg", jpeg(n, (300, 300)))) for n in range(60)]
    with serving(bundle_file) as process, ThreadPoolExecutor(4) as clients:
        url = f"http://127.0.0.1:{process.address[1]}/predict"
        waiting = [clients.submit(httpx.post, url, files=bodies, timeout=60) for _ in range(4)]
        while (
            "resnetkit_decode_seconds_count"
            not in httpx.get(url.replace("predict", "metrics")).text
        ):
            time.sleep(0.02)
        _, said, errors = stop(process)
        statuses = [one.result().status_code for one in waiting]
    answered = statuses.count(200)
    assert answered > 0
    assert statuses.count(503) == 4 - answered
    assert f"{answered} request" in said
    assert errors == ""


@pytest.mark.parametrize(
    "start", [b"Content-Length: 10000\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n"]
)
def test_a_body_that_does_not_come_ends_with_the_grace_time(
    bundle_file: Path, start: bytes
) -> None:
    with serving(bundle_file, "--grace", "2") as process, connect(process.address) as client:
        client.sendall(HEAD + start)
        time.sleep(0.2)
        seconds, said, errors = stop(process)
    assert 0.5 < seconds < 20
    assert said == "stopping: 0 requests answered since the signal, 1 not answered in 2 s\n"
    assert errors == ""


def test_who_still_sends_a_refused_body_does_not_keep_it(bundle_file: Path) -> None:
    large = HEAD + b"Content-Length: 100000000\r\n\r\n" + b"a" * 1000
    with serving(bundle_file) as process, connect(process.address) as client:
        client.sendall(large)
        assert b" 413 " in client.recv(1000)
        seconds, _, errors = stop(process)
    assert seconds < 9, "not the time to linger"
    assert errors == ""


def test_threads_that_do_not_end_do_not_keep_it(bundle_file: Path, tmp_path: Path) -> None:
    """An engine that hangs, in a thread that nothing can end."""
    code = (
        "import sys, time\n"
        "from resnetkit.inference.engines import torch\n"
        "from resnetkit.cli.main import main\n"
        "kind = next(kind for kind in vars(torch).values()\n"
        "    if isinstance(kind, type) and kind.__module__ == torch.__name__\n"
        "    and hasattr(kind, 'answer'))\n"
        "answer, calls = kind.answer, []\n"
        "def hanging(self, *given, **named):\n"
        "    calls.append(1)\n"
        "    return time.sleep(60) if calls[9:] else answer(self, *given, **named)\n"
        "kind.answer = hanging\n"
        "main(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", code, "serve", str(bundle_file), *ARGUMENTS, "--grace", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            port = int(process.stdout.readline().split()[0].rpartition(":")[2])
            with ThreadPoolExecutor(1) as clients:
                for number in range(20):
                    one = clients.submit(predict, ("127.0.0.1", port), jpeg(number), timeout=20)
                    with contextlib.suppress(TimeoutError):
                        one.result(5)
                        continue
                    break
                seconds, said, _ = stop(process)
                assert isinstance(one.exception(), httpx.HTTPError)
        finally:
            process.kill()
    assert seconds < 20
    assert "1 not answered in 2 s" in said
    assert process.returncode == 128 + signal.SIGTERM


def test_a_request_that_is_cancelled_while_stopping_is_quiet() -> None:
    async def forever(scope: dict, receive: object, send: object) -> None:
        await asyncio.sleep(60)

    async def cancelled(stopping: bool) -> bool:
        traffic = Traffic()
        traffic.stopping = False
        task = asyncio.create_task(
            traffic.middleware(forever)({"type": "http", "path": "/"}, None, None)
        )
        await asyncio.sleep(0)
        assert traffic.in_progress == 1
        traffic.stopping = stopping
        task.cancel()
        await asyncio.wait([task])
        assert traffic.in_progress == 0
        return task.cancelled()

    assert asyncio.run(cancelled(False))
    assert not asyncio.run(cancelled(True))


def test_it_is_served_to_other_machines_only_on_purpose(bundle_file: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"alice:{'a' * 20}\n")
    keys.chmod(0o600)
    command = [sys.executable, "-m", "resnetkit", "serve", str(bundle_file), "--host", "0.0.0.0"]
    done = subprocess.run([*command, *ARGUMENTS], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--host is 0.0.0.0" in done.stderr
    assert "give --api-key-file, or --insecure" in done.stderr
    given = [*command, *ARGUMENTS, "--api-key-file", str(keys), "--access-log"]
    pipe = subprocess.PIPE
    with subprocess.Popen(given, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            port = process.stdout.readline().split()[0].rpartition(":")[2]
            address = ("127.0.0.1", int(port))
            assert predict(address, jpeg(0)) == 401
            assert predict(address, jpeg(0), headers={"x-api-key": "a" * 20}) == 200
            _, _, errors = stop(process)
        finally:
            process.kill()
    assert 'alice "POST /predict" 200' in errors
    assert "aaaa" not in errors


def test_workers_say_what_they_answered(bundle_file: Path) -> None:
    body = jpeg(0)
    with (
        serving(bundle_file, "--workers", "1", "--grace", "20") as process,
        connect(process.address) as slow,
    ):
        slow.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body))
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        slow.sendall(body)
        assert b" 200 OK" in slow.recv(65536)
        assert process.wait(20) == 128 + signal.SIGTERM
        assert process.stdout.read() == "worker 0: stopping: 1 request answered since the signal\n"
        assert process.stderr.read() == ""

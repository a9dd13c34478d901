"""Memory and answers of `resnetkit serve` over minutes, with bad requests among the good ones.

32 clients send small JPEG files over connections that they keep; one request in ten is bad, of the
kinds in `KINDS`: rejected ones, slow ones, clients that hang up. Prints the answers that were not
expected, the rate, and how much the resident memory of its processes grew after the first minute.

    .venv/bin/python benchmarks/soak.py [--minutes 10] [--clients 32] [--model MODEL] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image

import resnetkit

#: Bodies above this are too large.
MEGABYTES = 1
HEAD = "POST /predict HTTP/1.1\r\nHost: soak\r\n"
SLOW = 1.0


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def post(body: bytes, headers: str = "") -> bytes:
    return f"{HEAD}{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


GOOD = [post(jpeg(seed)) for seed in range(32)]
_BODY = jpeg(99)
_LARGE = (MEGABYTES << 20) + 500_000
#: The bad requests: the bytes, and the status that is expected, if any.
KINDS: dict[str, tuple[bytes, int | None]] = {
    "not an image": (post(b"no image"), 422),
    "truncated": (post(_BODY[:400]), 422),
    "empty": (post(b""), 422),
    "too large": (post(b"x" * _LARGE), 413),
    "too large, chunked": (
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\n{_LARGE:x}\r\n".encode() + b"x" * _LARGE, 413),
    "slow": (post(_BODY), 200),
    "hang-up": (post(_BODY)[:-200], None),
    "hang-up in the headers": (post(_BODY)[:30], None),
    "wrong path": (b"GET /nothing HTTP/1.1\r\nHost: soak\r\n\r\n", 404),
    "wrong method": (b"GET /predict HTTP/1.1\r\nHost: soak\r\n\r\n", 405),
    "wrong parameter": (post(_BODY).replace(b"/predict", b"/predict?topk=-1"), 422),
    "large headers": (HEAD.encode() + b"X: y\r\n" * 20_000 + b"\r\n", 431),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "compressed": (post(_BODY, "Content-Encoding: gzip\r\n"), 415),
}  # fmt: skip


class Client:
    """One connection, opened again when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, data: bytes) -> None:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> int:
        """The status of the next answer."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        await self._reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        return int(lines[0].split()[1])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None


async def ask(client: Client, kind: str, request: bytes) -> int | str | None:
    """The status of a request, what went wrong, or None if it has no answer."""
    if kind.startswith("hang-up"):
        await client.send(request)
        client.close()
        return None
    try:
        if kind == "slow":
            await client.send(request[:-100])
            await asyncio.sleep(SLOW)
            request = request[-100:]
        await client.send(request)
    except ConnectionError:  # The answer may be there already.
        pass
    try:
        return await asyncio.wait_for(client.answer(), 30)
    except (OSError, EOFError, TimeoutError) as error:
        client.close()
        return type(error).__name__


async def run_client(
    port: int, seed: int, end: float, answers: Counter[tuple[str, int | str | None]]
) -> None:
    draw, client = random.Random(seed), Client(port)
    while time.monotonic() < end:
        kind = draw.choice(list(KINDS)) if draw.random() < 0.1 else "good"
        request = draw.choice(GOOD) if kind == "good" else KINDS[kind][0]
        answers[kind, await ask(client, kind, request)] += 1
    client.close()


def resident(process: int) -> float:
    """The resident memory of a process and those that it has started, in MiB."""
    folder = Path(f"/proc/{process}")
    try:
        lines = (folder / "status").read_text().splitlines()
        children = [one.read_text().split() for one in folder.glob("task/*/children")]
    except OSError:  # It has just ended.
        return 0.0
    own = next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)
    return own / 1024 + sum(resident(int(child)) for some in children for child in some)


async def soak(process: int, port: int, args: argparse.Namespace) -> dict[str, object]:
    answers: Counter[tuple[str, int | str | None]] = Counter()
    seconds, memory = 60 * args.minutes, []
    end = time.monotonic() + seconds
    clients = [
        asyncio.create_task(run_client(port, seed, end, answers)) for seed in range(args.clients)
    ]
    while time.monotonic() < end:
        await asyncio.sleep(1)
        memory.append(resident(process))
    await asyncio.gather(*clients)
    first = max(1, round(min(args.first, seconds / 2)))
    width = max(1, min(10, (len(memory) - first) // 2))
    early = statistics.median(memory[first : first + width])
    late = statistics.median(memory[-width:])
    expected = {"good": 200, **{kind: status for kind, (_, status) in KINDS.items()}}
    unexpected = {
        f"{kind}: {status}": count
        for (kind, status), count in sorted(answers.items(), key=str)
        if status != expected[kind]
    }
    good = answers["good", 200]
    return {
        "seconds": seconds,
        "clients": args.clients,
        "requests": answers.total(),
        "good_per_second": round(good / seconds, 1),
        "per_second": round(answers.total() / seconds, 1),
        "unexpected": unexpected,
        "kinds": {kind: sum(n for (k, _), n in answers.items() if k == kind) for kind in expected},
        "first_seconds": first,
        "memory_early_mib": round(early, 1),
        "memory_late_mib": round(late, 1),
        "growth_percent": round(100 * (late / early - 1), 2),
        "memory_mib": [round(one, 1) for one in memory],
    }


def small_bundle(folder: Path) -> Path:
    module = resnetkit.build("resnet20", num_classes=4).eval()
    path = folder / "soak.safetensors"
    resnetkit.Bundle.from_module(
        module,
        preprocess=resnetkit.Preprocess(size=32, resize_to=36),
        classes=("cat", "dog", "owl", "emu"),
    ).save(path)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--first", type=float, default=60, help="seconds that may grow")
    parser.add_argument("--model", type=Path, help="default: a resnet20 with random weights")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or small_bundle(Path(folder))
        command = [sys.executable, "-m", "resnetkit", "serve", str(model), "--port", "0",
                   "--max-megabytes", str(MEGABYTES)]  # fmt: skip
        with (
            open(Path(folder) / "errors", "w+", encoding="utf-8") as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as server,
        ):
            assert server.stdout is not None
            try:
                port = int(server.stdout.readline().split()[0].rpartition(":")[2])
                found = asyncio.run(soak(server.pid, port, args))
            finally:
                server.send_signal(signal.SIGTERM)
            server.wait(60)
            errors.seek(0)
            said = Counter(line.strip() for line in errors)
    found["log"] = dict(said.most_common(20))
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            if name != "memory_mib":
                print(f"{name}: {value}")
    return 1 if found["unexpected"] else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Requests a second of `resnetkit serve` and of servers written by hand, under `wrk`'s load.

A closed loop: each of N clients sends the next photograph (JPEG, 500x375) when it has its answer.
The servers run in turn, alone, in each round; `hand_written_servers.py` has the others, which serve
the same graph, and torchvision's module. A round also classifies a folder of the same files by
`resnetkit predict`, and one file at a time by its engine, which bounds what a server can reach.
Needs Debian's `wrk`, and `pip install litserve`.

    .venv/bin/python benchmarks/server.py [--rounds 5] [--seconds 8] [--clients 1,8,32,128]
                                          [--networks resnet50:int8,...] [--save NAME]
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import PIL.Image
import skimage.data
import torch

import resnetkit
from hand_written_servers import NAMES
from resnetkit.data.decoding import fast_decode
from resnetkit.inference import open_engine
from results import Table, add_save

HERE = Path(__file__).parent
OURS, RAW, EXACT = "resnetkit", "resnetkit, raw bodies", "resnetkit, --exact"
FOLDER_OF = 400
LUA = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "{kind}"
local bodies, next = {{}}, 0
for number = 0, {count} - 1 do
  local file = io.open("{folder}/" .. number .. ".jpg", "rb")
  bodies[number] = "{head}" .. file:read("*all") .. "{tail}"
  file:close()
end
function request()
  next = (next + 1) % {count}
  return wrk.format(nil, nil, nil, bodies[next])
end
function done(summary, latency, requests)
  io.write(string.format("RESULT %d %d %f %f %f %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(95), latency:percentile(99),
    summary.errors.status + summary.errors.read + summary.errors.timeout))
end
"""


def photographs(folder: Path, count: int) -> None:
    """JPEG files of quality 90, all different."""
    folder.mkdir()
    names = ("astronaut", "chelsea", "coffee", "rocket")
    for number in range(count):
        picture = PIL.Image.fromarray(getattr(skimage.data, names[number % 4])())
        picture = picture.rotate(number // 4).resize((500, 375), PIL.Image.Resampling.LANCZOS)
        picture.save(folder / f"{number}.jpg", quality=90)


def prepare(folder: Path, network: str, precision: str) -> Path:
    """The exported graph of a network with random weights, which takes as long as any other."""
    torch.manual_seed(0)
    names = tuple(f"c{number}" for number in range(1000))
    bundle = resnetkit.Bundle.from_module(
        resnetkit.build(network),
        classes=names,
        preprocess=resnetkit.Preprocess(size=224, resize_to=256),
    )
    path = folder / f"{network}-{precision}.xml"
    images = folder / "few"
    resnetkit.export(
        bundle, path, to="openvino", precision=precision, agree_on=images, min_agreement=0,
        calibrate=images if precision == "int8" else None,
    )  # fmt: skip
    return path


def scripts(folder: Path, count: int) -> dict[str, Path]:
    """wrk's scripts for forms and for raw bodies."""
    head = (
        '--XX\\r\\nContent-Disposition: form-data; name=\\"files\\"; filename=\\"a.jpg\\"\\r\\n'
        "Content-Type: image/jpeg\\r\\n\\r\\n"
    )
    forms = {"kind": "multipart/form-data; boundary=XX", "head": head, "tail": "\\r\\n--XX--\\r\\n"}
    found = {}
    for name, how in (("form", forms), ("raw", {"kind": "image/jpeg", "head": "", "tail": ""})):
        found[name] = folder / f"{name}.lua"
        found[name].write_text(LUA.format(folder=folder / "few", count=count, **how))
    return found


@contextmanager
def serving(name: str, graph: Path) -> Iterator[tuple[int, int]]:
    """A server that answers: its port and its process group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    if name in NAMES:
        network, _, precision = graph.stem.rpartition("-")
        command = [str(HERE / "hand_written_servers.py"), name, str(port), str(graph.parent),
                   network, precision]  # fmt: skip
    else:
        command = ["-m", "resnetkit", "serve", str(graph), "--port", str(port)]
        command += ["--exact"] if name == EXACT else []
    process = subprocess.Popen(
        [sys.executable, *command], start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    body = (graph.parent / "few" / "0.jpg").read_bytes()
    form = (b'--X\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n'
            b"Content-Type: image/jpeg\r\n\r\n" + body + b"\r\n--X--\r\n")  # fmt: skip
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict",
        form,
        {"Content-Type": "multipart/form-data; boundary=X"},
    )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(request, timeout=60).read()
                break
            except OSError:
                time.sleep(0.1)
        else:
            raise SystemExit(f"{name} did not start")
        yield port, process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        # Workers may outlive the process that started them.
        while any(members(process.pid)):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(0.2)


def members(group: int) -> Iterator[Path]:
    """The folders in /proc of the running processes of a group."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, number = stat.read_text().rpartition(")")[2].split()[:3]
            if int(number) == group and state != "Z":
                yield stat.parent


def memory(group: int) -> float:
    """MiB that the processes of a group hold, shared pages divided among them."""
    total = 0
    for folder in members(group):
        with suppress(OSError):
            pss = re.search(r"Pss:\s+(\d+)", (folder / "smaps_rollup").read_text())
            total += int(pss[1]) if pss else 0
    return total / 1024


def load(port: int, script: Path, clients: int, seconds: float) -> dict[str, float]:
    """What wrk reports; times in ms."""
    done = subprocess.run(
        ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", "30s", "-s", str(script),
         f"http://127.0.0.1:{port}/predict"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    count, microseconds, p50, p95, p99, errors = map(float, line.split()[1:])
    rate = count / microseconds * 1e6
    return {"rate": rate, "p50": p50 / 1e3, "p95": p95 / 1e3, "p99": p99 / 1e3, "errors": errors}


def bounds(graph: Path) -> dict[str, float]:
    """Images a second of the folder, and ms of decoding and computing one image by itself."""
    code = (
        "import sys, time, resnetkit\n"
        "from pathlib import Path\n"
        "files = sorted(map(str, Path(sys.argv[2]).iterdir())) * int(sys.argv[3])\n"
        "from resnetkit.inference.predictor import Predictor, PredictOptions\n"
        "from resnetkit.data.listing import ImageSource\n"
        "found = Predictor(resnetkit.open_model(sys.argv[1]), PredictOptions())\n"
        "def work(files):\n"
        "    return sum(bool(one.scores) for one in found.predict(ImageSource(files)))\n"
        "work(files[:100])\n"
        "start = time.perf_counter()\n"
        "assert work(files) == len(files)\n"
        "print(len(files) / (time.perf_counter() - start))\n"
    )
    few = graph.parent / "few"
    repeats = str(FOLDER_OF // len(list(few.iterdir())))
    done = subprocess.run(
        [sys.executable, "-c", code, str(graph), str(few), repeats],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    model = resnetkit.open_model(graph)
    engine = open_engine(model)
    times = []
    for number, file in enumerate(sorted(few.iterdir()) * 2):
        body = file.read_bytes()
        start = time.perf_counter()
        engine.answer(fast_decode.pixels_of(body, model.preprocess)[None])
        if number >= 10:
            times.append(time.perf_counter() - start)
    return {"rate": float(done.stdout.split()[-1]), "p50": statistics.median(times) * 1e3}


def measure(folder: Path, network: str, precision: str, args: argparse.Namespace) -> list[Any]:
    """The rows of one network: medians of all rounds, rates also as parts of the folder's."""
    graph = prepare(folder, network, precision)
    wrk = scripts(folder, args.photographs)
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    shares: dict[tuple[str, int], list[float]] = {}
    for _ in range(args.rounds):
        most = bounds(graph)
        found.setdefault(("predict, a folder", 0), []).append(
            {**most, "p50": 0, "p95": 0, "p99": 0, "errors": 0, "memory": 0}
        )
        shares.setdefault(("predict, a folder", 0), []).append(1)
        alone = {"rate": 1e3 / most["p50"], "p50": most["p50"], "p95": 0, "p99": 0}
        found.setdefault(("decoding and engine alone", 1), []).append(
            {**alone, "errors": 0, "memory": 0}
        )
        shares.setdefault(("decoding and engine alone", 1), []).append(alone["rate"] / most["rate"])
        for name in (OURS, RAW, EXACT, *NAMES):
            with serving(name, graph) as (port, group):
                script = wrk["raw" if name == RAW else "form"]
                load(port, script, 8, 2)
                for clients in args.clients:
                    one = load(port, script, clients, args.seconds)
                    key = (name, clients)
                    found.setdefault(key, []).append({**one, "memory": memory(group)})
                    shares.setdefault(key, []).append(one["rate"] / most["rate"])
    rows = []
    for (name, clients), ones in found.items():
        middle = {key: statistics.median(one[key] for one in ones) for key in ones[0]}
        share = statistics.median(shares[name, clients])
        row = {"network": f"{network} {precision}", "clients": clients, "server": name, **middle}
        rows.append({**row, "share": share})
    return sorted(rows, key=lambda row: row["clients"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--clients", type=lambda text: [*map(int, text.split(","))],
                        default=[1, 8, 32, 128])  # fmt: skip
    parser.add_argument("--networks", default="resnet50:int8,resnet50:fp32,resnet18:int8")
    parser.add_argument("--photographs", type=int, default=40)
    add_save(parser)
    args = parser.parse_args()
    table = Table(
        title="Serving",
        how=f"{os.cpu_count()} cores shared with wrk -t1, {args.seconds:g} s each; medians of "
        f"{args.rounds} rounds in turn; times in ms, memory in MiB; share: of the folder's rate in "
        "the same round",
        packages=("resnetkit", "openvino", "uvicorn", "litserve", "torch", "simplejpeg"),
        columns=(
            ("network", "network", ""),
            ("clients", "clients", ""),
            ("server", "server", ""),
            ("requests/s", "rate", ".1f"),
            ("share", "share", ".2f"),
            ("p50", "p50", ".1f"),
            ("p95", "p95", ".1f"),
            ("p99", "p99", ".1f"),
            ("errors", "errors", ".0f"),
            ("memory", "memory", ".0f"),
        ),
        bars="rate",
        groups=("network", "clients"),
    )
    table.begin()
    with tempfile.TemporaryDirectory() as folder:
        photographs(Path(folder) / "few", args.photographs)
        for network in args.networks.split(","):
            for row in measure(Path(folder), *network.split(":"), args):
                table.add(row)
    table.save(args.save)


if __name__ == "__main__":
    main()

"""`predict --on ray` against the local command, on workers pinned to one core each.

A cluster of Ray runs on this machine: a head without processors, and two machines of one core each,
whose processes are pinned to core 0 and core 1. The commands run in turn, each a process of its
own, over a folder of JPEG files (500x375); the rate is of the whole process, from its start to its
end. Needs `taskset` (util-linux). At the end it stops every process of Ray on this machine.

    .venv/bin/python benchmarks/cluster.py [--images 20000] [--rounds 1] [--network resnet18]
                                           [--precision int8] [--size 224] [--save NAME]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import PIL.Image
import skimage.data
import torch
from pyarrow import parquet

import resnetkit
from results import Table, add_save

BIN = Path(sys.executable).parent
PORT = 6391
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{BIN}:{os.environ['PATH']}",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
}
DIFFERENT = 200
LOCAL_1, RAY_1 = "local, 1 core", "ray, 1 worker"
LOCAL_2, RAY_2 = "local, 2 cores", "ray, 2 workers"


def photographs(folder: Path, count: int) -> None:
    """JPEG files, 200 different ones; further names are links to them."""
    folder.mkdir()
    names = ("astronaut", "chelsea", "coffee", "rocket")
    for number in range(count):
        path = folder / f"{number:07}.jpg"
        if number >= DIFFERENT:
            os.link(folder / f"{number % DIFFERENT:07}.jpg", path)
            continue
        picture = PIL.Image.fromarray(getattr(skimage.data, names[number % 4])())
        picture = picture.rotate(number // 4).resize((500, 375), PIL.Image.Resampling.LANCZOS)
        picture.save(path, quality=90)


def model(folder: Path, images: Path, arguments: argparse.Namespace) -> Path:
    """A network with random weights, which takes as long as any other."""
    torch.manual_seed(0)
    size = arguments.size
    bundle = resnetkit.Bundle.from_module(
        resnetkit.build(arguments.network),
        classes=tuple(f"c{number}" for number in range(1000)),
        preprocess=resnetkit.Preprocess(size=size, resize_to=size * 8 // 7),
    )
    path = folder / "model.xml"
    few = folder / "few"
    few.mkdir()
    for file in sorted(images.iterdir())[:32]:
        shutil.copy(file, few)
    resnetkit.export(
        bundle, path, to="openvino", precision=arguments.precision, agree_on=few, min_agreement=0,
        calibrate=few if arguments.precision == "int8" else None,
    )  # fmt: skip
    return path


@contextmanager
def cluster() -> Iterator[None]:
    """A head without processors, and a machine on each of the cores 0 and 1."""
    ray = [str(BIN / "ray"), "start", "--disable-usage-stats"]
    head = [*ray, "--head", "--port", str(PORT), "--num-cpus", "0", "--include-dashboard", "false"]
    try:
        subprocess.run(head, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
        for core in (0, 1):
            subprocess.run(
                ["taskset", "-c", str(core), *ray, "--address", f"127.0.0.1:{PORT}",
                 "--num-cpus", "1"],
                env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        yield
    finally:
        stop = [str(BIN / "ray"), "stop", "--force"]
        subprocess.run(stop, env=ENVIRONMENT, check=False, stdout=subprocess.DEVNULL)


def timed(name: str, graph: Path, images: Path, folder: Path) -> tuple[float, float | None, Path]:
    """Seconds of a whole command; those of its work alone, as Ray's summary says; and its file."""
    out = folder / re.sub(r"\W+", "-", name)
    command = [str(BIN / "resnetkit"), "predict", str(graph), str(images), "--out"]
    if name.startswith("local"):
        out = out.with_suffix(".parquet")
        pinned = ["taskset", "-c", "0"] if name == LOCAL_1 else []
        command = [*pinned, *command, str(out)]
    else:
        workers = "1" if name == RAY_1 else "2"
        command += [str(out), "--on", "ray", "--address", f"127.0.0.1:{PORT}",
                    "--workers", workers, "--worker-cpus", "1"]  # fmt: skip
    begin = time.perf_counter()
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    work = re.search(r"(?m)^([\d.,]+) s, ", done.stdout)
    return seconds, float(work[1].replace(",", "")) if work else None, out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--precision", choices=("fp32", "int8"), default="int8")
    parser.add_argument("--size", type=int, default=224)
    add_save(parser)
    arguments = parser.parse_args()
    table = Table(
        title="Prediction on Ray and by the local command",
        how=(
            f"{arguments.network}, {arguments.precision}, {arguments.size} pixels, "
            f"{arguments.images:,} JPEG files of 500x375; workers are pinned to a core each; "
            f"median of n = {arguments.rounds}"
        ),
        packages=("ray", "openvino", "pyarrow"),
        columns=(
            ("command", "command", ""),
            ("images/s", "rate", ".1f"),
            ("without start", "work", ".1f"),
            ("of the local command", "share", ".2f"),
        ),
        bars="rate",
    )
    names = (LOCAL_1, RAY_1, LOCAL_2, RAY_2)
    with tempfile.TemporaryDirectory(prefix="resnetkit-bench-") as place:
        root = Path(place)
        images = root / "images"
        photographs(images, arguments.images)
        graph = model(root, images, arguments)
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        with cluster():
            for number in range(arguments.rounds):
                folder = root / str(number)
                folder.mkdir()
                rows = {}
                for name in names:
                    whole, work, out = timed(name, graph, images, folder)
                    seconds[name].append((whole, work or whole))
                    rows[name] = parquet.read_table(out).replace_schema_metadata()
                same = all(rows[name] == rows[LOCAL_1] for name in names)
                print(f"round {number + 1}: the rows of all commands are "
                      f"{'equal, bit for bit' if same else 'NOT equal'}", flush=True)  # fmt: skip
        table.begin()
        rates = {
            name: arguments.images / statistics.median(whole for whole, _ in found)
            for name, found in seconds.items()
        }
        work = {
            name: arguments.images / statistics.median(alone for _, alone in found)
            for name, found in seconds.items()
        }
        for name, rate in rates.items():
            local = LOCAL_1 if name in (LOCAL_1, RAY_1) else LOCAL_2
            table.add(
                {"command": name, "rate": rate, "work": work[name], "share": rate / rates[local]}
            )
        print(f"two workers: {rates[RAY_2] / (2 * rates[RAY_1]):.3f} of twice one worker, "
              f"{work[RAY_2] / (2 * work[RAY_1]):.3f} without the start")  # fmt: skip
    table.save(arguments.save)


if __name__ == "__main__":
    main()

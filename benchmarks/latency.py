"""From nothing to the first answer, and one image at a time after it; and the memory of each.

Each contestant is a script as its user would write it, in a process of its own, started in turn:
it loads a network and classifies one JPEG file (the cold start), then the same file again and
again (p50, p99). What is counted as cold start is the whole process until its first answer.

    .venv/bin/python benchmarks/latency.py [--runs 5] [--network resnet50] [--images 40]
                                           [--save NAME]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import peers
from results import Table, add_save, spread

#: Before and after what a script has of its own; `first()` loads, `again()` answers once more.
BEFORE = """
import json, sys, time
folder, network, picture, images = sys.argv[1:4] + [int(sys.argv[4])]
"""
AFTER = """
def peak():
    # VmHWM is this program's; ru_maxrss would be that of the process that started it.
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
print("answered", flush=True)
times = []
for _ in range(images):
    start = time.perf_counter()
    again()
    times.append(time.perf_counter() - start)
rss = peak()
print(json.dumps({"times": times, "rss": rss}), flush=True)
"""
TRANSFORMS = """
import torch, torchvision, PIL.Image
from torchvision import transforms
transform = transforms.Compose([
    transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
    transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
])
def pixels():
    return transform(PIL.Image.open(picture).convert("RGB"))[None]
"""
OURS = """
import resnetkit
bundle = resnetkit.load(f"{folder}/{network}.safetensors")
def again():
    return bundle.predict([picture], engine=ENGINE)
again()
"""
SCRIPTS = {
    "torchvision, eager": TRANSFORMS
    + """
model = getattr(torchvision.models, network)(weights=None)
model.load_state_dict(torch.load(f"{folder}/{network}.pth", weights_only=True))
model.eval()
def again():
    with torch.inference_mode():
        return model(pixels()).topk(5)
again()
""",
    "ONNX Runtime by hand": TRANSFORMS
    + """
import onnxruntime
session = onnxruntime.InferenceSession(f"{folder}/{network}.onnx")
def again():
    return session.run(None, {"x": pixels().numpy()})[0].argsort()[0, -5:]
again()
""",
    "OpenVINO by hand": TRANSFORMS
    + """
import openvino
compiled = openvino.Core().compile_model(f"{folder}/{network}.onnx", "CPU",
                                         {"PERFORMANCE_HINT": "LATENCY"})
def again():
    return compiled({0: pixels().numpy()})[0].argsort()[0, -5:]
again()
""",
    "resnetkit, torch": OURS.replace("ENGINE", "'torch'"),
    "resnetkit, onnxruntime": OURS.replace("ENGINE", "'onnxruntime'"),
    "resnetkit, openvino": OURS.replace("ENGINE", "'openvino'"),
}


def started(script: str, *arguments: str) -> tuple[float, dict[str, Any]]:
    """Seconds from the start of the process to its first answer, and what it then tells."""
    start = time.perf_counter()
    command = [sys.executable, "-W", "ignore", "-c", BEFORE + script + AFTER, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        seconds = time.perf_counter() - start
        rest = process.stdout.read()
    assert first == "answered\n", f"{first}{rest}"
    return seconds, json.loads(rest)


def prepared(network: str, folder: Path) -> Path:
    """The same weights as a torch file, an ONNX file and a bundle, and a photograph."""
    module, _ = peers.prepared(network, folder)
    peers.exported(module, folder / f"{network}.onnx")
    return next(peers.pictures(folder, 1, 500, 375).rglob("*.jpg"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--images", type=int, default=40)
    add_save(parser)
    args = parser.parse_args()
    table = Table(
        title="The first answer, and one image at a time",
        how=f"{args.network}, one JPEG file, n = {args.runs} processes each, in turn; medians",
        packages=("torch", "torchvision", "onnxruntime", "openvino"),
        columns=(
            ("what", "name", ""),
            ("first answer, s", "cold", ".2f"),
            ("to torchvision", "ratio", ".2f"),
            ("least", "least", ".2f"),
            ("most", "most", ".2f"),
            ("p50, ms", "p50", ".0f"),
            ("p99, ms", "p99", ".0f"),
            ("MiB", "rss", ".0f"),
        ),
        bars="cold",
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        given = (str(folder), args.network, str(prepared(args.network, folder)), str(args.images))
        found: dict[str, list[tuple[float, dict[str, Any]]]] = {name: [] for name in SCRIPTS}
        for run in range(args.runs + 1):
            for name, script in SCRIPTS.items():
                told = started(script, *given)
                if run:  # the first fills the file system's cache
                    found[name].append(told)
                print(f"  {run} {name} {told[0]:.2f} s", file=sys.stderr, flush=True)
    base = [seconds for seconds, _ in found["torchvision, eager"]]
    table.begin()
    for name, runs in found.items():
        cold = statistics.median(seconds for seconds, _ in runs)
        ratios = spread(s / b for (s, _), b in zip(runs, base, strict=True))
        times = sorted(t for _, told in runs for t in told["times"])
        p50, p99 = (times[min(len(times) - 1, int(len(times) * q))] * 1000 for q in (0.5, 0.99))
        rss = statistics.median(told["rss"] for _, told in runs)
        table.add({"name": name, "cold": cold, **ratios, "p50": p50, "p99": p99, "rss": rss})
    table.save(args.save)


if __name__ == "__main__":
    main()

"""From a folder of JPEG files to classes: ours against our peers, each in a process of its own.

The processes run in turn; each loads its network, answers a few images, and then times the whole
folder in the file system's cache. Imports and loading are not counted (`latency.py` counts them).

    .venv/bin/python benchmarks/folder.py [--runs 5] [--network resnet50] [--count 64]
                                          [--size 500x375] [--save NAME]
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from resnetkit.inference.engines.engine import EngineName
from results import Table, add_save, spread

#: How many worker processes or threads read images, for all.
WORKERS = 2
BATCH = 8
WARM = 8


def peak() -> float:
    """MiB; VmHWM is this program's, ru_maxrss would be that of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def timed(count: int, work: Callable[[int], int]) -> dict[str, Any]:
    """Images a second of ``work(images)``, after it has answered a few."""
    work(WARM)
    start = time.perf_counter()
    done = work(count)
    seconds = time.perf_counter() - start
    assert done == count, f"{done} of {count} images were answered"
    rss = peak()
    return {"rate": count / seconds, "rss": rss}


# ------------------------------------------------------------------------------- our peers


def torchvision(folder: Path, network: str, pictures: Path, count: int) -> dict[str, Any]:
    """torchvision's reference: ImageFolder, its presets' transforms, DataLoader, eager."""
    torch = importlib.import_module("torch")
    code = importlib.import_module("torchvision")
    from torchvision.transforms import v2

    model = getattr(code.models, network)(weights=None)
    model.load_state_dict(torch.load(folder / f"{network}.pth", weights_only=True))
    model.eval()
    transforms = v2.Compose(
        [
            v2.PILToTensor(),
            v2.Resize(256, antialias=True),
            v2.CenterCrop(224),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    dataset = code.datasets.ImageFolder(str(pictures), transforms)

    def work(images: int) -> int:
        some = torch.utils.data.Subset(dataset, range(images))
        loader = torch.utils.data.DataLoader(some, batch_size=BATCH, num_workers=WORKERS)
        with torch.inference_mode():
            return sum(len(model(x).argmax(1)) for x, _ in loader)

    return timed(count, work)


def timm(folder: Path, network: str, pictures: Path, count: int) -> dict[str, Any]:
    """timm's inference.py: its dataset, loader and transforms, eager."""
    torch, code = importlib.import_module("torch"), importlib.import_module("timm")
    data = importlib.import_module("timm.data")
    model = code.create_model(network, pretrained=False)
    model.load_state_dict(torch.load(folder / f"{network}.pth", weights_only=True))
    model.eval()
    config = data.resolve_data_config({}, model=model)
    dataset = data.ImageDataset(str(pictures), transform=data.create_transform(**config))

    def work(images: int) -> int:
        some = torch.utils.data.Subset(dataset, range(images))
        loader = torch.utils.data.DataLoader(some, batch_size=BATCH, num_workers=WORKERS)
        with torch.inference_mode():
            return sum(len(model(x).topk(5)[1]) for x, _ in loader)

    return timed(count, work)


def transformers(folder: Path, _: str, pictures: Path, count: int) -> dict[str, Any]:
    """transformers' pipeline on the same weights, converted."""
    code = importlib.import_module("transformers")
    files = [str(path) for path in sorted(pictures.rglob("*.jpg"))]
    pipe = code.pipeline(
        "image-classification", model=str(folder / "transformers"), device="cpu",
        image_processor=code.AutoImageProcessor.from_pretrained(folder / "transformers"),
    )  # fmt: skip
    return timed(count, lambda images: len(pipe(files[:images], batch_size=BATCH)))


def openvino(
    folder: Path, network: str, pictures: Path, count: int, precision: str
) -> dict[str, Any]:
    """OpenVINO by hand: PIL and torchvision's transforms in a DataLoader, asynchronous requests."""
    torch, code = importlib.import_module("torch"), importlib.import_module("openvino")
    tv = importlib.import_module("torchvision")
    transforms = tv.transforms
    transform = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    dataset = tv.datasets.ImageFolder(str(pictures), transform)
    core = code.Core()
    kind = "int8" if precision == "int8" else "fp32"
    model = core.read_model(folder / f"{network}-hand-{kind}.xml")
    model.reshape([BATCH, 3, 224, 224])
    # bf16 is what OpenVINO computes float32 in, unless it is told not to, where there is bfloat16.
    config = {"INFERENCE_PRECISION_HINT": "f32"} if precision == "fp32" else {}
    compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", **config})
    queue = code.AsyncInferQueue(compiled)

    def work(images: int) -> int:
        found: dict[int, Any] = {}

        def keep(request: Any, number: int) -> None:
            found[number] = request.get_output_tensor().data.argmax(1).copy()

        queue.set_callback(keep)
        some = torch.utils.data.Subset(dataset, range(images))
        loader = torch.utils.data.DataLoader(some, batch_size=BATCH, num_workers=WORKERS)
        for number, (x, _) in enumerate(loader):
            queue.start_async({0: x.numpy()}, number)
        queue.wait_all()
        return sum(map(len, found.values()))

    return timed(count, work)


# ------------------------------------------------------------------------------------ ours


def ours(
    folder: Path,
    network: str,
    pictures: Path,
    count: int,
    file: str,
    *,
    exact: bool = False,
    engine: EngineName = "auto",
) -> dict[str, Any]:
    """What `resnetkit predict` does for many images, to the ranked classes."""
    from resnetkit.bundle.opening import open_model
    from resnetkit.data.listing import expanded, listed
    from resnetkit.inference.engines.selection import open_engine
    from resnetkit.inference.prediction import stream

    model = open_model(folder / file.format(network))
    opened = open_engine(model, engine)

    def work(images: int) -> int:
        found = islice(listed(expanded([str(pictures)])), images)
        infer_batches = stream(
            opened, model.preprocess, model.classes, found, batch_size=BATCH, exact=exact
        )
        return sum(1 for answer in infer_batches if answer.scores)

    return timed(count, work)


def engine_only(folder: Path, network: str, _: Path, count: int, file: str) -> dict[str, Any]:
    """Our engine alone, on pixels that are there."""
    import numpy as np

    from resnetkit.bundle.opening import open_model
    from resnetkit.inference.engines.selection import open_engine

    model = open_model(folder / file.format(network))
    engine = open_engine(model)
    side = model.preprocess.size
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, side, side, 3), np.uint8)

    def work(images: int) -> int:
        return sum(map(len, engine.infer_batches([pixels] * (images // BATCH))))

    return timed(count, work)


BUNDLE, INT8 = "{}.safetensors", "{}-int8.xml"
CONTESTANTS: dict[str, Callable[[Path, str, Path, int], dict[str, Any]]] = {
    "torchvision's script": torchvision,
    "timm's script": timm,
    "transformers' pipeline": transformers,
    "OpenVINO by hand, fp32": partial(openvino, precision="fp32"),
    "OpenVINO by hand, bf16": partial(openvino, precision="bf16"),
    "OpenVINO by hand, int8": partial(openvino, precision="int8"),
    "resnetkit, fp32": partial(ours, file=BUNDLE),
    "resnetkit, fp32, exact": partial(ours, file=BUNDLE, exact=True),
    "resnetkit, bf16": partial(ours, file=BUNDLE, engine="openvino-bf16"),
    "resnetkit, int8": partial(ours, file=INT8),
    "resnetkit, engine only, fp32": partial(engine_only, file=BUNDLE),
    "resnetkit, engine only, int8": partial(engine_only, file=INT8),
}


def prepare(folder: Path, network: str) -> None:
    """The same weights for all: torch, transformers, OpenVINO twice, a bundle, our int8 file."""
    import openvino as ov

    import peers
    from resnetkit.hub.conversion import convert

    module, bundle = peers.prepared(network, folder)
    peers.quantised(folder / f"{network}.safetensors", folder)
    for kind in ("fp32", "int8"):
        model = peers.openvino_model(module, int8=kind == "int8")
        ov.save_model(model, folder / f"{network}-hand-{kind}.xml", compress_to_fp16=False)
    place = folder / "transformers"
    place.mkdir()
    code = importlib.import_module("transformers")
    basic = module.layer1[0].expansion == 1
    widths = (64, 128, 256, 512)
    code.ResNetConfig(
        depths=[len(getattr(module, f"layer{stage}")) for stage in range(1, 5)],
        hidden_sizes=[width * (1 if basic else 4) for width in widths],
        layer_type="basic" if basic else "bottleneck",
        num_labels=1000,
        architectures=["ResNetForImageClassification"],
    ).save_pretrained(place)
    code.ConvNextImageProcessor(size={"shortest_edge": 224}, crop_pct=224 / 256).save_pretrained(
        place
    )
    convert(bundle, place / "model.safetensors", to="transformers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--size", default="500x375")
    parser.add_argument("--only", help="those whose names contain one of these, A,B")
    add_save(parser)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        name, folder = args.one
        pictures = Path(folder) / args.size
        told = CONTESTANTS[name](Path(folder), args.network, pictures, args.count)
        print(json.dumps(told))
        return
    import peers
    from resnetkit.inference.engines.openvino import has_bf16

    names = [
        name
        for name in CONTESTANTS
        if ("bf16" not in name or has_bf16())
        and (not args.only or any(part in name for part in args.only.split(",")))
    ]
    table = Table(
        title="From JPEG files to classes",
        how=f"{args.network}, {args.count} JPEG files of {args.size}, n = {args.runs} processes "
        "each, in turn; medians",
        packages=("torch", "torchvision", "timm", "transformers", "openvino", "simplejpeg"),
        columns=(
            ("what", "name", ""),
            ("img/s", "rate", ".1f"),
            (f"to {names[0]}", "ratio", ".2f"),
            ("least", "least", ".2f"),
            ("most", "most", ".2f"),
            ("MiB", "rss", ".0f"),
        ),
        bars="rate",
    )
    with tempfile.TemporaryDirectory() as place:
        prepare(Path(place), args.network)
        width, height = map(int, args.size.split("x"))
        peers.pictures(Path(place), args.count, width, height)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for run in range(args.runs):
            for name in names:
                command = [sys.executable, "-W", "ignore", __file__, "--network", args.network,
                           "--count", str(args.count), "--size", args.size,
                           "--one", name, place]  # fmt: skip
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                told = json.loads(done.stdout.splitlines()[-1])
                found[name].append(told)
                print(f"  {run} {name}: {told['rate']:.2f}", file=sys.stderr, flush=True)
    table.begin()
    first = [told["rate"] for told in found[names[0]]]
    for name, runs in found.items():
        ratios = spread(told["rate"] / base for told, base in zip(runs, first, strict=True))
        rate = statistics.median(told["rate"] for told in runs)
        rss = statistics.median(told["rss"] for told in runs)
        table.add({"name": name, "rate": rate, **ratios, "rss": rss})
    table.save(args.save)


if __name__ == "__main__":
    main()

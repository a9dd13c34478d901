"""Classify images with a trained bundle, or compute their embeddings.

PATH is an image; a folder, which is searched for images; a WebDataset shard (.tar, .tar.gz), or a
quoted pattern of shards, e.g. 'shard-{000..099}.tar'; a Parquet file with images or their paths;
the address of one of these (s3://..., https://...); or - for names on standard input. Any number of
images is read in bounded memory, and the order is kept. With --out, the same command resumes after
a kill or Ctrl-C (except for a table). With --on ray, the workers of a cluster predict, and --out is
a folder of Parquet files. Exit code 1: some images could not be read; they are listed, and CSV,
JSON and Parquet have a row with the reason.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from resnetkit.errors import InputError
from resnetkit.files import check_target
from resnetkit.inference.engines.engine import CHOICES

if TYPE_CHECKING:
    from resnetkit.inference.predictor import PredictOptions


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="e.g. RUN/best.safetensors, or hf:OWNER/NAME")
    add("paths", nargs="+", metavar="PATH", help="images, folders, shards, or - ; see above")
    add("--topk", type=int, default=5, metavar="N", help="classes shown; default: 5")
    add("--embeddings", action="store_true", help="pooled features instead of classes, e.g. "
        "2048 numbers of a ResNet-50")  # fmt: skip
    add("--exact", action="store_true", help="pixels bit-equal to torchvision's, also for "
        "64 images or more and names on standard input, where the default is a "
        "faster path")  # fmt: skip
    add("--batch-size", type=int, metavar="N", help="default: the fastest, measured once")
    add("--engine", choices=CHOICES, default="auto", help="inference engine; auto: the fastest "
        "installed one with float32 results")  # fmt: skip
    add("--device", metavar="NAME", help="cpu, cuda, ...; default: cuda if available")
    add("--format", choices=("table", "csv", "json", "jsonl", "parquet", "npy", "fiftyone"),
        help="default: the suffix of --out, else table; fiftyone: a labels.json of the most "
        "probable classes")  # fmt: skip
    add("--out", metavar="FILE", help="write to a file instead of printing")
    add("-0", "--null", action="store_true", help="names on standard input are NUL-terminated, "
        "as from find -print0")  # fmt: skip
    cluster = parser.add_argument_group("on a cluster").add_argument
    cluster("--on", choices=("ray",), help="predict by the workers of a Ray cluster; default: "
            "this process")  # fmt: skip
    cluster("--address", metavar="HOST:PORT", help="head of the cluster, or auto; default: "
            "RAY_ADDRESS, else one is started on this machine")  # fmt: skip
    cluster("--workers", type=int, metavar="N", help="default: as many as fit")
    cluster("--worker-cpus", type=int, metavar="N", help="default: all of the smallest machine")
    cluster("--partition-size", type=int, metavar="N", help="images per file, except that a shard "
            "is one; default: 1024")  # fmt: skip
    cluster("--core-price", type=float, metavar="X", help="price of a core for an hour, to show "
            "the cost")  # fmt: skip
    cluster("--metrics-port", type=int, metavar="PORT", help="serve the progress as metrics for "
            "Prometheus")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from resnetkit.bundle.opening import open_model
    from resnetkit.data.datasets.image_folder import left_out
    from resnetkit.data.listing import ImageSource
    from resnetkit.inference.predictor import PredictOptions, Predictor
    from resnetkit.inference.results.formats import format_of
    from resnetkit.report.console.lines import tell_engine
    from resnetkit.report.console.predictions import show, show_file, tell_unnamed

    options = PredictOptions(
        topk=args.topk,
        output="embeddings" if args.embeddings else "logits",
        engine=args.engine,
        device=args.device,
        batch_size=args.batch_size,
        exact=args.exact,
    )
    if args.on is not None:
        return _on_ray(args, options)
    _check_local(args)
    out = None if args.out is None else Path(args.out)
    kind = format_of(args.format, out, embeddings=args.embeddings)
    if out is not None:
        check_target(out)
    images = ImageSource(args.paths, names=sys.stdin.buffer, null=args.null)
    model = open_model(args.bundle)
    predictor = Predictor(model, options)
    tell_engine(predictor.engine.to_dict(), predictor.engine.options.reason)
    if not args.embeddings:
        tell_unnamed(model)
    if out is None or kind == "table":
        unreadable = show(predictor, images, kind, out)
    else:
        unreadable = show_file(predictor, images, kind, out)
    if images.endings:
        print(f"resnetkit: {left_out(images.endings)}", file=sys.stderr)
    return 1 if unreadable else 0


#: The options of a cluster.
_CLUSTER = ("address", "workers", "worker_cpus", "partition_size", "core_price", "metrics_port")


def _check_local(args: argparse.Namespace) -> None:
    for name in _CLUSTER:
        if getattr(args, name) is not None:
            raise InputError(f"{name} is for a cluster; give on as well", field=(name, "on"))


def _on_ray(args: argparse.Namespace, options: PredictOptions) -> int:
    from resnetkit.cluster import RayOptions
    from resnetkit.report.console.cluster import show_on_ray

    if args.out is None:
        raise InputError("a cluster writes to a folder; give out", field="out")
    if args.format not in (None, "parquet"):
        raise InputError("a cluster writes parquet; leave format out", field="format")
    if args.null:
        raise InputError("names on standard input are not for a cluster", field="null")
    given = {name: getattr(args, name) for name in _CLUSTER[:-2]}
    ray_options = RayOptions(**{name: value for name, value in given.items() if value is not None})
    return show_on_ray(
        args.bundle,
        args.paths,
        args.out,
        options,
        ray_options,
        core_price=args.core_price,
        metrics_port=args.metrics_port,
    )

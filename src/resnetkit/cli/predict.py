"""Classify images with a trained bundle, or compute their embeddings.

PATH is an image; a folder, which is searched for images; a WebDataset shard (.tar, .tar.gz), or a
quoted pattern of shards, e.g. 'shard-{000..099}.tar'; the address of one of these (s3://...,
https://...); or - for names on standard input. Any number of images is read in bounded memory, and
the order is kept. With --out, the same command resumes after a kill or Ctrl-C (except for a table).
Exit code 1: some images could not be read; they are listed, and CSV, JSON and Parquet have a row
with the reason.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from resnetkit.files import check_target
from resnetkit.inference.engines.engine import CHOICES


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
    add("--out", type=Path, metavar="FILE", help="write to a file instead of printing")
    add("-0", "--null", action="store_true", help="names on standard input are NUL-terminated, "
        "as from find -print0")  # fmt: skip


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
    kind = format_of(args.format, args.out, embeddings=args.embeddings)
    if args.out is not None:
        check_target(args.out)
    images = ImageSource(args.paths, names=sys.stdin.buffer, null=args.null)
    model = open_model(args.bundle)
    predictor = Predictor(model, options)
    tell_engine(predictor.engine.to_dict(), predictor.engine.options.reason)
    if not args.embeddings:
        tell_unnamed(model)
    if args.out is None or kind == "table":
        unreadable = show(predictor, images, kind, args.out)
    else:
        unreadable = show_file(predictor, images, kind, args.out)
    if images.endings:
        print(f"resnetkit: {left_out(images.endings)}", file=sys.stderr)
    return 1 if unreadable else 0

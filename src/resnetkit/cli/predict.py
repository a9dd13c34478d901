"""Classify images with a trained bundle.

PATH is an image or a folder, which is searched for images; the order is kept. Exit code 1: some
images could not be read; they are named and skipped.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="e.g. RUN/best.safetensors")
    add("paths", type=Path, nargs="+", metavar="PATH", help="images, or folders of images")
    add("--top", type=int, default=5, metavar="N", help="classes shown; default: 5")
    add("--batch-size", type=int, default=32, metavar="N", help="default: 32")
    add("--device", metavar="NAME", help="cpu, cuda, ...; default: cuda where there is one")
    add("--format", choices=("table", "json", "csv"), default="table", help="default: table")
    add("--out", type=Path, metavar="FILE", help="write to a file instead of printing")


def run(args: argparse.Namespace) -> int:
    from resnetkit.bundle import load
    from resnetkit.files import atomic
    from resnetkit.prediction import device_named, expand, stream
    from resnetkit.views.predictions import WRITERS
    from resnetkit.views.progress import track

    paths = expand(args.paths)
    bundle = load(args.bundle)
    device = device_named(args.device)
    predictions = stream(
        bundle.module().to(device),
        bundle.preprocess,
        bundle.classes,
        paths,
        top=args.top,
        batch_size=args.batch_size,
        device=device,
    )
    with ExitStack() as stack:
        file = sys.stdout
        if args.out is not None:
            temporary = stack.enter_context(atomic(args.out))
            file = stack.enter_context(temporary.open("w", encoding="utf-8", newline=""))
        if not file.isatty():  # on a terminal, the answers themselves show how far it is
            predictions = track(predictions, len(paths))
        skipped = WRITERS[args.format](predictions, file)
    return 1 if skipped else 0

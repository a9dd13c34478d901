"""Classify images with a trained bundle, or describe them with its embeddings.

PATH is an image; a folder, which is searched for images; a WebDataset shard (.tar, .tar.gz), or
a pattern of shards in quotes, e.g. 'shard-{000..099}.tar'; or - for names on standard input. Any
number of images is read in bounded memory, and the order is kept. With --out, what a kill or Ctrl-C
has interrupted goes on when the same command is given again (a table begins anew). Exit code 1:
some images could not be read; they are named, and in CSV, JSON and Parquet they stand in their
place with the reason.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from functools import partial
from itertools import chain, islice
from pathlib import Path

from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import CHOICES, Output

#: The exact pixels and a batch that nobody measured will do for fewer images than this.
FEW = 64
SOME = 8


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="e.g. RUN/best.safetensors")
    add("paths", nargs="+", metavar="PATH", help="images, folders, shards, or - ; see above")
    add("--top", type=int, default=5, metavar="N", help="classes shown; default: 5")
    add("--embeddings", action="store_true", help="the pooled last map instead of classes, e.g. "
        "2048 numbers of a ResNet-50")  # fmt: skip
    add("--exact", action="store_true", help="the pixels of torchvision bit for bit, also where "
        f"there are {FEW} images or more or names on standard input; otherwise they are made "
        "faster")  # fmt: skip
    add("--batch-size", type=int, metavar="N", help="default: the fastest one, measured once")
    add("--engine", choices=CHOICES, default="auto", help="what computes; auto: the fastest "
        "installed one that keeps float32 answers")  # fmt: skip
    add("--device", metavar="NAME", help="cpu, cuda, ...; default: cuda where there is one")
    add("--format", choices=("table", "csv", "json", "jsonl", "parquet", "npy"), help="default: "
        "what --out ends in, else table")  # fmt: skip
    add("--out", type=Path, metavar="FILE", help="write to a file instead of printing")
    add("-0", "--null", action="store_true", help="names on standard input end with a zero byte, "
        "as after find -print0")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    import numpy as np

    from resnetkit.bundle.opening import open_model
    from resnetkit.data.datasets.image_folder import left_out
    from resnetkit.data.listing import STANDARD_INPUT, expanded, listed
    from resnetkit.inference.engines.autotune import tuned
    from resnetkit.inference.engines.selection import chosen, open_engine
    from resnetkit.inference.prediction import stream
    from resnetkit.inference.results.formats import format_of
    from resnetkit.inference.results.resumable_file import digest_of
    from resnetkit.report.console.lines import tell_engine
    from resnetkit.report.console.predictions import show

    if args.top < 1 or (args.batch_size is not None and args.batch_size < 1):
        raise InputError("--top and --batch-size take whole numbers from 1")
    kind = format_of(args.format, args.out, embeddings=args.embeddings)
    if args.out is not None and not args.out.parent.is_dir():
        raise InputError(f"cannot write {args.out}: there is no folder {args.out.parent}")
    paths = expanded(args.paths)
    bundle = open_model(args.bundle)
    output: Output = "embeddings" if args.embeddings else "logits"
    engine = open_engine(bundle, args.engine, output, device=args.device)
    tell_engine(engine.to_dict(), chosen(bundle, args.device)[1] if args.engine == "auto" else None)

    endings: Counter[str] = Counter()
    images = listed(paths, names=sys.stdin.buffer, null=args.null, endings=endings)
    many = STANDARD_INPUT in paths
    if not many:
        first = list(islice(images, FEW))
        many, images = len(first) == FEW, chain(first, images)
    exact, size = args.exact or not many, args.batch_size or SOME
    side, depth = bundle.preprocess.size, bundle.preprocess.channel_count
    digest = digest_of(args.bundle) if args.out or many else ""
    if many and args.batch_size is None and not engine.cuts:
        size = tuned(engine, (side, side, depth), digest)
    features = 0
    if args.embeddings:
        features = engine.answer(np.zeros((1, side, side, depth), np.uint8)).shape[1]
    what = {"model": digest, "paths": args.paths, "format": kind, "top": args.top, "exact": exact}
    what["engine"] = {name: str(value) for name, value in engine.to_dict().items()}
    answer = partial(stream, engine, bundle.preprocess, bundle.classes,
                     top=args.top, batch_size=size, exact=exact)  # fmt: skip
    unreadable = show(answer, images, paths, kind, args.out, what, output, features)
    if endings:
        print(f"resnetkit: {left_out(endings)}", file=sys.stderr)
    return 1 if unreadable else 0

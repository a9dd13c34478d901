"""Write labelled images into tar shards, which are read faster than many small files.

DATA is as in `train`, or the address of class folders, s3://bucket/pictures. OUT, a folder or an
address such as s3://bucket/name, gets train-000000.tar, ... and classes.txt, in WebDataset format,
and index.json with counts and checksums; `resnetkit train OUT` trains on them. The same command
resumes an interrupted one.
"""

from __future__ import annotations

import argparse
import json


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="as in `train`: a folder, a table, ...")
    parser.add_argument("out", metavar="OUT", help="the output folder, or its address")
    parser.add_argument("--megabytes", type=float, default=256.0, metavar="N",
                        help="size of a shard; default: 256")  # fmt: skip
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    from resnetkit.data.datasets.opening import open_dataset
    from resnetkit.data.datasets.webdataset_writer import pack
    from resnetkit.report.console.lines import say, tell_unreadable
    from resnetkit.report.console.progress import counted

    source = open_dataset(args.data, least=1, loose=True)
    with counted(len(source.examples)) as done:
        packed = pack(source, args.out, megabytes=args.megabytes, done=done)
    for name in packed.missing:
        tell_unreadable(name, "it cannot be read")
    if args.format == "json":
        say(
            json.dumps(
                {
                    "folder": packed.folder,
                    "shards": packed.shards,
                    "kept": packed.kept,
                    "images": packed.images,
                    "missing": list(packed.missing),
                },
                indent=2,
            )
        )
    else:
        kept = f", {packed.kept} of them already existed" if packed.kept else ""
        say(f"{packed.images} images in {packed.shards} shards{kept}: {packed.folder}")
    return 1 if packed.missing else 0

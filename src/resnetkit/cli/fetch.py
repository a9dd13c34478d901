"""Download published weights, verify them and write a bundle.

SOURCE is one of
  torchvision:NETWORK[@WEIGHTS]        torchvision:resnet50@IMAGENET1K_V1
  hf:OWNER/NAME[/FILE][@REVISION]      hf:timm/resnet50.a1_in1k, hf:microsoft/resnet-50
  https://...                          any checkpoint; http only with --sha256

The bundle includes what the source documents: placement of strides, preprocessing, class names.
Files are kept in the cache (RESNETKIT_CACHE, else XDG_CACHE_HOME/resnetkit or ~/.cache/resnetkit;
for hf the cache of huggingface_hub). The same command resumes an interrupted download.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from resnetkit.cli.network_options import add_options, given_options
from resnetkit.cli.reading_options import (
    add_fetching,
    add_reading,
    given_fetching,
    given_reading,
)
from resnetkit.errors import InputError


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="SOURCE")
    add("--out", type=Path, metavar="FILE", help="the bundle, a .safetensors file; default: the "
        "name of the source, in this folder, if it does not exist yet")  # fmt: skip
    add("--num-classes", type=int, metavar="N", help="a new, untrained classifier")
    add("--format", choices=("table", "json"), default="table")
    add_fetching(parser)
    add_reading(parser)
    add_options(parser, without=("num_classes",))


def run(args: argparse.Namespace) -> int:
    target = _target(args)
    from resnetkit.hub.fetching import fetch
    from resnetkit.report.console import fetched
    from resnetkit.report.console.progress import transfer

    with transfer(args.source) as on_progress:
        bundle = fetch(
            args.source,
            num_classes=args.num_classes,
            on_progress=on_progress,
            **given_fetching(args),
            **given_reading(args),
            **given_options(args, without=("num_classes",)),
        )
    bundle.save(target)
    if args.format == "json":
        print(json.dumps(fetched.to_dict(bundle, target), indent=2))
    else:
        fetched.show(bundle, target)
    return 0


def _target(args: argparse.Namespace) -> Path:
    """The bundle's path, validated before anything is downloaded."""
    from resnetkit.source import parse

    target: Path = args.out or Path(f"{parse(args.source).short}.safetensors")
    if target.suffix.lower() != ".safetensors":
        raise InputError(f"{target} must be a bundle; give a name that ends in .safetensors")
    if not target.parent.is_dir():
        raise InputError(f"there is no folder {target.parent} for {target.name}; create it first")
    if args.out is None and target.exists():
        raise InputError(f"{target} already exists; choose another path with --out")
    return target

"""Convert a checkpoint of any framework to another framework's format, or to a bundle.

Every tensor of the network is used exactly once, with its exact shape. Attributes that the file
does not determine default to the framework's documented values, with a message; with --strict they
require a flag. The output is read back and compared with the input's network.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from resnetkit.cli.network_options import add_options, given_options
from resnetkit.cli.reading_options import add_reading, given_reading


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", type=Path, metavar="IN", help="a checkpoint of any framework, or a bundle")
    add("target", type=Path, metavar="OUT", help="a .safetensors, .pth, .pt or .pkl file; "
        "for Keras .h5 or .weights.h5; for timm and transformers also a new folder, which they "
        "load")  # fmt: skip
    add("--to", default="bundle", metavar="DIALECT", help="bundle (default), torchvision, timm, "
        "semseg, transformers, mmpretrain, keras-h5, keras-weights, ...")  # fmt: skip
    add("--num-classes", type=int, metavar="N", help="a new, untrained classifier")
    add("--verify-with-source", action="store_true", help="also run the file in its own framework "
        "(torchvision, timm, transformers, pytorchcv, keras)")  # fmt: skip
    add("--format", choices=("table", "json"), default="table")
    add_reading(parser)
    add_options(parser, without=("num_classes",))


def run(args: argparse.Namespace) -> int:
    from resnetkit.hub.conversion import convert
    from resnetkit.report.console import checkpoint

    done = convert(
        args.source,
        args.target,
        to=args.to,
        num_classes=args.num_classes,
        verify=args.verify_with_source,
        **given_reading(args),
        **given_options(args, without=("num_classes",)),
    )
    if args.format == "json":
        print(json.dumps(done.to_dict(), indent=2))
    else:
        checkpoint.show_converted(done)
    return 0

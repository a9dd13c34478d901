"""Export a bundle to another runtime, and verify that the predictions agree.

OUT ends in .onnx, .xml (openvino), .pt2 (torch-export), .safetensors (bundle) or .html (web: a
page that classifies pictures in a browser, offline); triton and ovms write a model repository
folder. The bundle and the written file classify the same images; their agreement is printed and
saved beside OUT. Below --min-agreement nothing is written, and the exit code is 2.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from resnetkit.inference.engines.exported_model import PRECISIONS

TARGETS = ("onnx", "openvino", "torch-export", "bundle", "triton", "ovms", "web")


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="e.g. RUN/best.safetensors")
    add("target", type=Path, metavar="OUT", help="a file, or a folder for triton and ovms")
    add("--to", choices=TARGETS, required=True)
    add("--precision", choices=PRECISIONS, help="default: fp32; for web fp16")
    add("--calibrate", metavar="DATA", help="images for int8, a folder or digits; default: the "
        "run's training images")  # fmt: skip
    add("--dynamic-batch", action="store_true", help="any batch size, instead of 1")
    add("--with-preprocessing", action="store_true", help="the graph takes whole images, resizes "
        "and crops them")  # fmt: skip
    add("--min-agreement", type=float, default=99.0, metavar="PERCENT", help="percentage of "
        "images that must get the same class; default: 99")  # fmt: skip
    add("--agree-on", metavar="DATA", help="images to compare, a folder or digits; default: "
        "the run's held-out images, or photographs")  # fmt: skip
    add("--format", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    from resnetkit.exporters.exporter import export
    from resnetkit.report.console.export import show_export
    from resnetkit.report.console.progress import track

    done = export(
        args.bundle,
        args.target,
        to=args.to,
        precision=args.precision,
        calibrate=args.calibrate,
        agree_on=args.agree_on,
        min_agreement=args.min_agreement,
        dynamic_batch=args.dynamic_batch,
        with_preprocessing=args.with_preprocessing,
        track=track,
    )
    if args.format == "json":
        print(json.dumps(done.to_dict(), indent=2))
    else:
        show_export(done)
    return 0

"""Measure a trained bundle on labelled images.

DATA is `digits` or a folder of class folders, whose names are matched to the bundle's classes;
any subset of them will do. Measured are the test images where DATA has a test/ folder, else those
of val/, else what the bundle's run held back of this folder, else all. Exit code 1: some images
could not be read.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="e.g. RUN/best.safetensors")
    add("data", metavar="DATA", help="a folder, or digits")
    add("--split", choices=("train", "validation", "test", "all"), help="which images; see above")
    add("--batch-size", type=int, default=64, metavar="N", help="default: 64")
    add("--device", metavar="NAME", help="cpu, cuda, ...; default: cuda where there is one")
    add("--format", choices=("table", "json"), default="table", help="default: table")
    add("--out", type=Path, metavar="FOLDER", help="where confusion.png goes; default: the "
        "bundle's folder if it is a run's")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from resnetkit import evaluation
    from resnetkit.views import plots
    from resnetkit.views.progress import track
    from resnetkit.views.run import show_measurement, tell_trained_on, tell_unreadable

    measurement = evaluation.measure_bundle(
        args.bundle,
        args.data,
        split=args.split,
        batch_size=args.batch_size,
        device=args.device,
        track=lambda examples: track(examples, len(examples)),
    )
    tell_trained_on(measurement.trained_on)
    for name, reason in measurement.evaluation.problems:
        tell_unreadable(name, reason)
    folder = args.out or measurement.run
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        plots.save_confusion(measurement.evaluation, folder / "confusion.png", measurement.title)
    if args.format == "json":
        print(measurement.to_json())
    else:
        show_measurement(measurement)
    return 1 if measurement.evaluation.problems else 0

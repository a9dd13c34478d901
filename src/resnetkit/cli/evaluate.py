"""Evaluate a trained bundle on labelled images.

DATA is `digits`, a folder of class folders, or a flat one with --label-pattern; its classes are
matched by name and may be a subset of the bundle's. The images used are those of test/ if DATA has
it, else of val/, else the images of this folder that the bundle's run held out, else all. With
--try, BUNDLE may be a checkpoint of any framework: each candidate value of FACT is evaluated to
find the right one; other open facts default to the documented values. --format html writes a
self-contained page to stdout or --out. Exit code 1: some images could not be read.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from resnetkit.cli.network_options import add_options, given_options
from resnetkit.cli.reading_options import add_reading, given_reading
from resnetkit.data.datasets.label_pattern import joined_pattern
from resnetkit.errors import InputError
from resnetkit.files import check_target
from resnetkit.inference.engines.engine import CHOICES


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="e.g. RUN/best.safetensors, or hf:OWNER/NAME")
    add("--try", action="append", dest="facts", metavar="FACT", help="a fact that `identify` "
        "lists as open, e.g. stride-on; may be given several times")  # fmt: skip
    add("data", metavar="DATA", help="a folder, or digits")
    add("--label-pattern", metavar="PATTERN", help="file name pattern of a flat folder that gives "
        "the class, e.g. '{label}_*'")  # fmt: skip
    add("--split", choices=("train", "validation", "test", "all"), help="which images; see above")
    add("--batch-size", type=int, default=64, metavar="N", help="default: 64")
    add("--engine", choices=CHOICES, default="auto", help="inference engine; auto: the fastest "
        "installed one with float32 results")  # fmt: skip
    add("--device", metavar="NAME", help="cpu, cuda, ...; default: cuda if available")
    add("--class-map", type=Path, metavar="FILE", help="maps class folders to classes: lines "
        "as in ImageNet's LOC_synset_mapping.txt, CSV, TSV or JSON")  # fmt: skip
    add("--format", choices=("table", "json", "html"), default="table", help="default: table")
    add("--out", type=Path, metavar="PATH", help="with html, the output file; else the folder "
        "for confusion.png, by default the bundle's run folder")  # fmt: skip
    add_reading(parser, strict=False)
    add_options(parser, without=("num_classes",))


def run(args: argparse.Namespace) -> int:
    if args.label_pattern is not None:
        args.data = joined_pattern(args.data, args.label_pattern)
    reading = given_options(args) | given_reading(args)
    if args.facts:
        if args.class_map or args.format == "html":
            flag = "--class-map" if args.class_map else "--format html"
            raise InputError(f"{flag} cannot be combined with --try; leave one of them out")
        return _try(args, reading)
    if reading:
        flag = min(reading).replace("_", "-")
        raise InputError(f"--{flag} requires --try; a bundle is complete, so leave it out")
    if args.format == "html" and args.out is not None:
        check_target(args.out)
    from resnetkit.evaluation.evaluation import evaluate
    from resnetkit.report.console.progress import track
    from resnetkit.report.evaluation import show

    measurement = evaluate(
        args.bundle,
        args.data,
        split=args.split,
        batch_size=args.batch_size,
        device=args.device,
        engine=args.engine,
        class_map=args.class_map,
        track=track,
    )
    show(measurement, args.format, args.out)
    return 1 if measurement.evaluation.problems else 0


def _try(args: argparse.Namespace, given: dict[str, Any]) -> int:
    from resnetkit.evaluation.ambiguity_trial import try_facts
    from resnetkit.report.console.progress import track
    from resnetkit.report.evaluation import show_trial

    trial = try_facts(
        args.bundle,
        args.data,
        [fact.replace("-", "_") for fact in args.facts],
        split=args.split,
        batch_size=args.batch_size,
        device=args.device,
        track=track,
        **given,
    )
    show_trial(trial, args.format)
    return 1 if trial.problems else 0

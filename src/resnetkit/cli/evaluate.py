"""Measure a trained bundle on labelled images.

DATA is `digits` or a folder of class folders, whose names are matched to the bundle's classes;
any subset of them will do. Measured are the test images where DATA has a test/ folder, else those
of val/, else what the bundle's run held back of this folder, else all. With --try, BUNDLE may be a
checkpoint of any framework: what it cannot tell is measured with every value, to say which is
right; the rest is taken as documented. Exit code 1: some images could not be read.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from resnetkit.cli.network_options import add_options, given_options
from resnetkit.errors import InputError


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="e.g. RUN/best.safetensors")
    add("--try", action="append", dest="facts", metavar="FACT", help="one that `identify` "
        "lists as open, e.g. stride-on; may be given several times")  # fmt: skip
    add("--preprocess", metavar="LABEL", help="with --try; one that `resnetkit identify` lists")
    add("data", metavar="DATA", help="a folder, or digits")
    add("--split", choices=("train", "validation", "test", "all"), help="which images; see above")
    add("--batch-size", type=int, default=64, metavar="N", help="default: 64")
    add("--device", metavar="NAME", help="cpu, cuda, ...; default: cuda where there is one")
    add("--format", choices=("table", "json"), default="table", help="default: table")
    add("--out", type=Path, metavar="FOLDER", help="where confusion.png goes; default: the "
        "bundle's folder if it is a run's")  # fmt: skip
    add_options(parser, without=("classes",))


def run(args: argparse.Namespace) -> int:
    told = given_options(args) | ({"preprocess": args.preprocess} if args.preprocess else {})
    if args.facts:
        return _try(args, told)
    if told:
        flag = min(told).replace("_", "-")
        raise InputError(f"--{flag} goes with --try; a bundle says all of itself, so leave it out")
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


def _try(args: argparse.Namespace, given: dict[str, Any]) -> int:
    from resnetkit.trial import try_facts
    from resnetkit.views.progress import track
    from resnetkit.views.run import show_trial, tell_unreadable

    trial = try_facts(
        args.bundle,
        args.data,
        [fact.replace("-", "_") for fact in args.facts],
        split=args.split,
        batch_size=args.batch_size,
        device=args.device,
        track=lambda examples: track(examples, len(examples)),
        **given,
    )
    for name, reason in trial.problems:
        tell_unreadable(name, reason)
    if args.format == "json":
        print(trial.to_json())
    else:
        show_trial(trial)
    return 1 if trial.problems else 0

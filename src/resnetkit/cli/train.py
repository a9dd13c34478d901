"""Train a network on labelled images, or on scikit-learn's digits.

DATA is `digits` (the default), a folder DATA/CLASS/*.jpg, one with train/, val/ and test/ folders
of class folders, a flat folder with --label-pattern, a table (CSV, Parquet) of paths and labels, a
folder written by Hugging Face's datasets, one of IDX files (MNIST), or tar shards: a folder of
them, train-{000..009}.tar, or their address (s3://..., https://...). --from fine-tunes existing
weights, with a new classifier if the classes differ: a file, or a source as in `fetch`
(torchvision:resnet50, hf:OWNER/NAME, https://...); attributes it does not determine default to the
documented values, as in `convert`. The run folder gets recipe.toml, split.json, log.jsonl, the best
and the last bundle, curves.png, confusion.png and report.html, which is rewritten after each epoch.
--resume continues after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.architecture.registry import network
from resnetkit.cli.messages import is_rank_0, told_once, under_torchrun
from resnetkit.cli.network_options import add_options, given_options
from resnetkit.cli.reading_options import (
    add_fetching,
    add_reading,
    given_fetching,
    given_reading,
)
from resnetkit.cli.recipe_options import NAMES, add_choices
from resnetkit.errors import InputError, check_installed, printable

if TYPE_CHECKING:
    from resnetkit.bundle.bundle import Bundle
    from resnetkit.report.cost import Prices
    from resnetkit.training.callbacks import Callback, RunOptions
    from resnetkit.training.distributed import Processes
    from resnetkit.training.recipe.recipe import Recipe
    from resnetkit.training.result import Result


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", nargs="?", metavar="DATA", help="a folder, or digits (default)")
    add("--label-pattern", metavar="PATTERN", help="file name pattern of a flat folder that gives "
        "the class, e.g. '{label}_*'; DATA/PATTERN is the same")  # fmt: skip
    add("--model", metavar="NAME", help="a network of `resnetkit catalog`; default: resnet20 "
        "for digits, resnet18 for a folder")  # fmt: skip
    add("--from", dest="start", metavar="FILE|SOURCE", help="a bundle, a checkpoint of any "
        "framework, or a published source")  # fmt: skip
    add("--out", type=Path, metavar="RUN", help="the run's new folder; default: runs/DATA-MODEL")
    add("--resume", type=Path, metavar="RUN", help="continue an interrupted run")
    add("--overwrite", action="store_true", help="replace an existing run in RUN")
    add("--checkpoint-minutes", type=float, metavar="N", default=10.0, help="minutes between "
        "checkpoints within an epoch; default: 10, 0 saves one after each step")  # fmt: skip
    add("--tensorboard", action="store_true", help="write TensorBoard events into RUN/"
        "tensorboard; --resume rewrites all epochs")  # fmt: skip
    add("--mlflow", metavar="URI|FOLDER", help="log to an MLflow server, or into a folder; with "
        "--resume the same run")  # fmt: skip
    add("--wandb", metavar="PROJECT", help="log to Weights & Biases, offline without an API key; "
        "with --resume the same run")  # fmt: skip
    add("--metrics-port", type=int, metavar="PORT", help="serve metrics for Prometheus while "
        "training, by rank 0")  # fmt: skip
    add("--core-price", type=float, metavar="X", help="price of a core for an hour, to show the "
        "cost")  # fmt: skip
    add("--gpu-price", type=float, metavar="X", help="the same of a GPU, with --device cuda")
    add("--skip-nan", action="store_true", help="skip a batch whose loss is not finite, "
        "instead of stopping")  # fmt: skip
    add("--recipe", metavar="NAME|FILE", help="quick (default), paper, tv-v2, a1, a2, a3, ffcv, or "
        "a TOML file with some or all fields of a recipe.toml")  # fmt: skip
    add("--find-lr", action="store_true", help="increase the learning rate over 100 steps, suggest "
        "one, and stop; --out is then a plot of the curve (.png, .svg, .pdf)")  # fmt: skip
    add("--format", choices=("table", "json"), help="of --find-lr; default: table")
    add("--show-recipe", action="store_true", help="print the recipe as TOML and stop")
    add("--size", type=int, metavar="PIXELS", help="side of the network's input")
    add("--no-augment", action="store_true", help="disable augmentation")
    add("--max-bad", type=float, default=0.01, metavar="SHARE", help="share of images that may "
        "be unreadable; default: 0.01")  # fmt: skip
    add("--memory", type=float, default=1.0, metavar="GIB", help="cache of decoded images, "
        "so that each is decoded once; default: 1")  # fmt: skip
    add("--network-timeout", type=float, default=300.0, metavar="SECONDS", help="under torchrun, "
        "how long processes wait for one that has died or is cut off; default: 300")  # fmt: skip
    add("--fsdp", action="store_true", help="under torchrun, divide weights, gradients and "
        "optimizer state over the processes, for networks that do not fit into one")  # fmt: skip
    add_choices(parser)
    add_fetching(parser)
    add_reading(parser)
    # The data determines the numbers of classes and channels.
    add_options(parser, without=("num_classes", "in_chans"))


def run(args: argparse.Namespace) -> int:
    check_installed("torch", "training")
    from resnetkit.data.datasets.label_pattern import joined_pattern
    from resnetkit.report import plots
    from resnetkit.report.callbacks.live_report import watched
    from resnetkit.report.callbacks.prometheus import PrometheusCallback
    from resnetkit.report.console.training import Printed, show_result
    from resnetkit.report.cost import Prices
    from resnetkit.training.process_group import joined
    from resnetkit.training.run_folder import RECIPE
    from resnetkit.training.signals import Terminated

    with told_once():
        if args.label_pattern is not None:
            args.data = joined_pattern(args.data, args.label_pattern)
        if args.show_recipe and not args.resume:
            recipe = _planned(args)[0]
            if is_rank_0():
                print(recipe.to_toml(), end="")
            return 0
        if args.find_lr and not args.resume:
            return _find_rate(args)
        if args.format:
            raise InputError("--format requires --find-lr; a run writes log.jsonl")
        folder = args.resume or args.out or default_folder(args)
        prices = Prices(core_price=args.core_price, gpu_price=args.gpu_price)
        metrics = None
        if args.metrics_port is not None:
            metrics = PrometheusCallback(
                args.metrics_port, core_price=args.core_price, gpu_price=args.gpu_price
            )
        printed = Printed(prices)
        callback = watched(
            printed,
            folder,
            tensorboard=args.tensorboard,
            mlflow=args.mlflow,
            wandb=args.wandb,
            prometheus=metrics,
            resumed=args.resume is not None,
        )
        timeout = _conduct(args).network_timeout
    with printed:
        try:
            with joined(timeout) as processes:
                if metrics is not None:
                    # Before anything is written.
                    processes.shared(metrics.listen)
                if args.resume:
                    result = _resumed(args, callback, processes, prices)
                else:
                    result = _started(args, folder, callback, processes, prices)
        except KeyboardInterrupt as signal:
            if (folder / RECIPE).exists():
                command = "torchrun ... -m resnetkit" if under_torchrun() else "resnetkit"
                callback.warn(f"{folder} can be continued: {command} train --resume {folder}")
            if isinstance(signal, Terminated):
                callback.warn("terminated")
                return 143
            raise
    if not processes.leads:
        return 0
    plots.save_curves(result.rows, result.folder / "curves.png")
    title = f"{result.recipe.network.name} on the {result.part} images"
    plots.save_confusion(result.evaluation, result.folder / "confusion.png", title)
    show_result(result)
    printed.show_cost()
    return 0


def default_folder(args: argparse.Namespace) -> Path:
    """The default run folder."""
    from resnetkit.data.datasets.label_pattern import folder_of, is_pattern
    from resnetkit.source import short_name
    from resnetkit.training.recipe_defaults import usual_model

    data = args.data or "digits"
    model = args.model or (short_name(args.start) if args.start else usual_model(data))
    place = folder_of(data) if is_pattern(data) else Path(data)
    return Path("runs", f"{place.resolve().name}-{model}")


def _started(
    args: argparse.Namespace,
    folder: Path,
    callback: Callback,
    processes: Processes,
    prices: Prices,
) -> Result:
    from resnetkit.training.run import run_recipe

    recipe, pretrained = processes.shared(lambda: _planned(args))
    prices.check(recipe.runtime.device)
    return run_recipe(
        recipe,
        folder,
        callback,
        pretrained=pretrained,
        run_options=_conduct(args),
        overwrite=args.overwrite,
        processes=processes,
    )


def _find_rate(args: argparse.Namespace) -> int:
    import json

    from resnetkit.report import plots
    from resnetkit.report.console.lr_finder import show_found
    from resnetkit.report.console.progress import counted
    from resnetkit.report.console.training import Printed
    from resnetkit.training.lr_finder import STEPS, find_lr

    if under_torchrun() and os.environ["WORLD_SIZE"] != "1":
        raise InputError("--find-lr has a single process; start it without torchrun")
    if args.out is not None:
        plots.check_picture(args.out)
    recipe, pretrained = _planned(args)
    with Printed() as callback, counted(STEPS * recipe.batch_size) as done:
        found = find_lr(
            recipe, callback, pretrained=pretrained, run_options=_conduct(args), done=done
        )
    if args.out is not None:
        plots.save_range(found, args.out, f"{recipe.network.name} on {Path(recipe.data).name}")
    if args.format == "json":
        print(json.dumps({**found.to_dict(), "recipe": recipe.to_dict()}, indent=2))
    else:
        show_found(found, recipe)
    return 0


def _planned(args: argparse.Namespace) -> tuple[Recipe, Bundle | None]:
    from resnetkit.report.console.lr_finder import tell_fitted
    from resnetkit.training.recipe_defaults import make_recipe, usual_model

    choices = {name: getattr(args, name) for name in ("model", "size", "recipe", *NAMES)}
    data, options, start = args.data or "digits", given_options(args), None
    if args.start is not None:
        start = _start(args, options)
    elif about := {**given_reading(args), **given_fetching(args)}:
        raise InputError(f"--{min(about)} applies to the file of --from; give that too")
    elif options:
        choices["model"] = network(args.model or usual_model(data), **options)
    recipe = make_recipe(
        data, pretrained=start, augment=not args.no_augment, fitted=tell_fitted, **choices
    )
    return recipe, start


def _conduct(args: argparse.Namespace) -> RunOptions:
    from resnetkit.training.callbacks import RunOptions

    return RunOptions(**{field.name: getattr(args, field.name) for field in fields(RunOptions)})


def _start(args: argparse.Namespace, options: dict[str, Any]) -> Bundle:
    """The weights to fine-tune."""
    from resnetkit.hub.fetching import FetchOptions
    from resnetkit.hub.load_options import LoadOptions
    from resnetkit.hub.loading import spoken_lines
    from resnetkit.hub.weights import load_or_fetch
    from resnetkit.report.console.progress import transfer

    with transfer(args.start) as on_progress:
        fetching = FetchOptions(on_progress=on_progress, **given_fetching(args))
        start = load_or_fetch(
            args.start, fetching, LoadOptions.of({**given_reading(args), **options})
        )
    for line in spoken_lines(start.origin):
        print(f"resnetkit: {printable(f'{args.start}: {line}')}", file=sys.stderr)
    return start


def _resumed(
    args: argparse.Namespace, callback: Callback, processes: Processes, prices: Prices
) -> Result:
    from resnetkit.training.run import resume
    from resnetkit.training.run_folder import read_recipe

    given = [
        name
        for name in ("data", "start", "out", "model", "size", "recipe", *NAMES)
        if getattr(args, name) is not None
    ]
    given += [*given_options(args), *given_reading(args), *given_fetching(args)]
    given += [
        name
        for name in ("no_augment", "overwrite", "show_recipe", "find_lr", "format")
        if getattr(args, name)
    ]
    if given:
        flag = given[0].replace("_", "-")
        flag = {"data": "DATA", "start": "--from"}.get(flag, f"--{flag}")
        raise InputError(f"a resumed run keeps its recipe; leave {flag} out")
    prices.check(processes.shared(lambda: read_recipe(args.resume)).runtime.device)
    return resume(args.resume, callback, run_options=_conduct(args), processes=processes)

"""Train a network on a folder of class folders, or on scikit-learn's digits.

DATA is `digits` (the default), a folder DATA/CLASS/*.jpg, or one with train/, val/ and test/
folders of class folders. --from trains other weights further, with a new classifier where the
classes differ; what a checkpoint cannot tell takes a flag or --assume, as in `convert`. The run
folder gets recipe.toml, split.json, log.jsonl, the best and the last bundle, curves.png and, where
there are test images, confusion.png. Ctrl-C leaves a run that --resume continues.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.architecture.catalog import network
from resnetkit.cli.network_options import add_options, given_options
from resnetkit.errors import InputError

if TYPE_CHECKING:
    from resnetkit.bundle import Bundle
    from resnetkit.training.run import Result, Watch

_CHOICES = (
    "model",
    "epochs",
    "batch_size",
    "lr",
    "size",
    "seed",
    "device",
    "weight_decay",
    "label_smoothing",
    "warmup",
    "validation",
    "test",
    "threads",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", nargs="?", metavar="DATA", help="a folder, or digits (default)")
    add("--model", metavar="NAME", help="a network of `resnetkit catalog`; default: resnet20 "
        "for digits, resnet18 for a folder")  # fmt: skip
    add("--from", dest="start", metavar="FILE", help="a bundle or a checkpoint of any framework")
    add("--assume", action="store_true", help="take what that file cannot tell as documented")
    add("--preprocess", metavar="LABEL", help="of that file; one that `resnetkit identify` lists")
    add("--out", type=Path, metavar="RUN", help="the run's new folder; default: runs/DATA-MODEL")
    add("--resume", type=Path, metavar="RUN", help="continue an interrupted run")
    add("--epochs", type=int, metavar="N", help="default: 20 for digits, 30 for a folder")
    add("--batch-size", type=int, metavar="N", help="default: 64 for digits, else 4 to 32")
    add("--lr", type=float, metavar="X", help="peak learning rate; default: 0.1 for batches of 64")
    add("--size", type=int, metavar="PIXELS", help="side of the network's input")
    add("--seed", type=int, metavar="N", help="default: 0")
    add("--device", metavar="NAME", help="cpu, cuda, ...; default: cuda where there is one")
    add("--weight-decay", type=float, metavar="X", help="default: 0.0005")
    add("--label-smoothing", type=float, metavar="X", help="default: 0.1")
    add("--warmup", type=float, metavar="EPOCHS", help="epochs of rising learning rate; default: 2")
    add("--validation", type=float, metavar="SHARE", help="held back to choose the best epoch; "
        "default: 0.15")  # fmt: skip
    add("--test", type=float, metavar="SHARE", help="held back to measure; default: 0.15")
    add("--no-augment", action="store_true", help="train on the images as they are")
    add("--threads", type=int, metavar="N", help="processor threads of torch")
    # The data says how many classes and channels there are.
    add_options(parser, without=("classes", "input_channels"))


def run(args: argparse.Namespace) -> int:
    from resnetkit.training.run import RECIPE
    from resnetkit.views import plots
    from resnetkit.views.run import Printed, show_result

    folder = args.resume or args.out or default_folder(args)
    with Printed() as watch:
        try:
            result = _resumed(args, watch) if args.resume else _started(args, folder, watch)
        except KeyboardInterrupt:
            if (folder / RECIPE).exists():
                watch.warn(f"{folder} can be continued: resnetkit train --resume {folder}")
            raise
    plots.save_curves(result.rows, result.folder / "curves.png")
    if result.test is not None:
        title = f"{result.recipe.network.name} on the test images"
        plots.save_confusion(result.test, result.folder / "confusion.png", title)
    show_result(result)
    return 0


def default_folder(args: argparse.Namespace) -> Path:
    """Where a run goes without --out."""
    from resnetkit.training.plan import usual_model

    data = args.data or "digits"
    model = args.model or (Path(args.start).stem if args.start else usual_model(data))
    return Path("runs", f"{Path(data).resolve().name}-{model}")


def _started(args: argparse.Namespace, folder: Path, watch: Watch) -> Result:
    from resnetkit.training.plan import plan, usual_model
    from resnetkit.training.run import train

    choices = {name: getattr(args, name) for name in _CHOICES}
    data, options, start = args.data or "digits", given_options(args), None
    if args.start is not None:
        start = _start(args, options)
    elif args.assume or args.preprocess:
        raise InputError("--assume and --preprocess are about the file of --from; give that too")
    elif options:
        choices["model"] = network(args.model or usual_model(data), **options)
    recipe = plan(data, start=start, augment=not args.no_augment, **choices)
    return train(recipe, folder, watch, start=start)


def _start(args: argparse.Namespace, options: dict[str, Any]) -> Bundle:
    """The weights to train further."""
    from resnetkit.conversion import load

    return load(args.start, assume=args.assume, preprocess=args.preprocess, **options)


def _resumed(args: argparse.Namespace, watch: Watch) -> Result:
    from resnetkit.training.run import resume

    given = [
        name for name in ("data", "start", "out", *_CHOICES) if getattr(args, name) is not None
    ]
    given += given_options(args)
    if given or args.no_augment:
        flag = (given or ["no_augment"])[0].replace("_", "-")
        flag = {"data": "DATA", "start": "--from"}.get(flag, f"--{flag}")
        raise InputError(f"a resumed run keeps its recipe; leave {flag} out")
    return resume(args.resume, watch)

"""``resnetkit COMMAND``: imports and runs a command, and prints errors as one line.

Exit codes: 0 success; 1 some inputs skipped; 2 invalid input; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import io
import os
import sys
import warnings
from typing import NoReturn

from resnetkit.cli.messages import in_flags, told_once
from resnetkit.errors import AssumptionWarning, InputError, missing, printable

#: Every command with its line in the overview.
COMMANDS = {
    "explain": "show a network layer by layer: shapes, parameters, MACs, receptive field",
    "view": "open a network on one page in the browser, from stages to windows",
    "catalog": "list every named network",
    "compare": "show where two networks differ",
    "train": "train a network on a folder of class folders, a table, shards, or digits",
    "runs": "compare the runs in a folder: accuracy, time, recipe differences",
    "shards": "write labelled images into tar shards",
    "evaluate": "evaluate a trained bundle on labelled images",
    "predict": "classify images with a trained bundle",
    "duplicates": "find near-duplicates among images, by their embeddings",
    "bench": "benchmark a model on this machine",
    "serve": "serve a trained bundle over HTTP",
    "fetch": "download published weights as a bundle: torchvision, Hugging Face, a URL",
    "push": "push a bundle to the Hugging Face Hub, with a model card",
    "identify": "identify a weight file, and list what it does not determine",
    "convert": "convert a checkpoint to another framework, verified",
    "export": "export a bundle to ONNX, OpenVINO, torch.export or a server, verified",
    "doctor": "print versions, packages, processor and engine of this machine",
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        with told_once():
            raise InputError(f"{message}; see `{self.prog} --help`")


def overview() -> str:
    """The text of ``resnetkit`` and ``resnetkit --help``."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {about}" for name, about in COMMANDS.items()]
    return "\n".join(
        [
            "resnetkit: every ResNet, exactly - see it, train it, classify with it",
            "",
            "usage: resnetkit COMMAND ...",
            "",
            *lines,
            "",
            "See `resnetkit COMMAND --help` for the options of a command.",
        ]
    )


def _run(argv: list[str]) -> int:
    if {"_ARGCOMPLETE", "COMP_LINE"} <= os.environ.keys():
        from resnetkit.cli.completion import complete

        complete(COMMANDS)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if argv[0] == "--version":
        from resnetkit.version import __version__

        print(f"resnetkit {__version__}")
        return 0
    name, *rest = argv
    if name.startswith(("--local-rank", "--local_rank")):
        with told_once():
            raise InputError(
                f"{name.partition('=')[0]} is an argument of torch.distributed.launch; use torchrun"
            )
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"unknown command {name!r}; {hint}commands: {', '.join(COMMANDS)}")
    # Spinning threads make torch many times slower on a shared CPU; sleeping costs about 5 % on an
    # idle one. OpenMP reads this when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Commands report assumptions and unreadable images themselves.
    warnings.simplefilter("ignore", AssumptionWarning)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        command = importlib.import_module(f"resnetkit.cli.{name}")
        parser = Parser(prog=f"resnetkit {name}", description=command.__doc__, allow_abbrev=False)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        command.arguments(parser)
        return int(command.run(parser.parse_args(rest)))
    except ModuleNotFoundError as error:
        raise missing(error, f"resnetkit {name}") or error from None


def _file_error(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # its encoding may not be UTF-8
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("resnetkit: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has exited, as in `resnetkit catalog | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except InputError as error:
        print(f"resnetkit: {printable(' '.join(in_flags(error).split()))}", file=sys.stderr)
    except OSError as error:
        print(f"resnetkit: {printable(_file_error(error))}", file=sys.stderr)
    return 2

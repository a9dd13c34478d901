"""Print what resnetkit finds on this machine: versions, packages, processor, GPUs, engine, caches.

Paste it into a bug report. It ends with what would make this machine faster.
"""

from __future__ import annotations

import argparse
import json


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    from resnetkit.report.console.environment import show_environment
    from resnetkit.report.environment import environment

    found = environment()
    if args.format == "json":
        print(json.dumps(found.to_dict(), indent=2))
    else:
        show_environment(found)
    return 0

"""Push a bundle to the Hugging Face Hub, with a model card and the configuration for timm,
transformers or torchvision to load it.

Log in once with `hf auth login`, or set HF_TOKEN. Everything is in one commit. `resnetkit predict
hf:OWNER/NAME picture.jpg` and `resnetkit fetch hf:OWNER/NAME` load what was pushed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="e.g. RUN/best.safetensors")
    add("repo_id", metavar="OWNER/NAME", help="the repository; created if it does not exist")
    add("--framework", choices=("timm", "transformers", "none"), help="that loads the weights; "
        "default: timm, which transformers uses too, else transformers, else none")  # fmt: skip
    add("--private", action=argparse.BooleanOptionalAction, help="whether a new repository is "
        "private; default: public, or as its organization says")  # fmt: skip
    add("--license", metavar="NAME", help="an identifier of the Hub, e.g. apache-2.0; default: "
        "stated as unknown")  # fmt: skip
    add(
        "--revision",
        metavar="BRANCH",
        help="default: main; created if it does not exist, except with --create-pr",
    )
    add("--commit-message", metavar="TEXT", default="Push a model with resnetkit")
    add("--create-pr", action="store_true", help="open a pull request instead")
    add("--overwrite", action="store_true", help="replace another library's model, and "
        "a model card written by hand")  # fmt: skip
    add("--format", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    from resnetkit.hub.pushing import push_to_hub
    from resnetkit.report.console import pushed

    done = push_to_hub(
        args.bundle,
        args.repo_id,
        framework=args.framework,
        private=args.private,
        revision=args.revision,
        commit_message=args.commit_message,
        create_pr=args.create_pr,
        license=args.license,
        overwrite=args.overwrite,
    )
    if args.format == "json":
        print(json.dumps(done.to_dict(), indent=2))
    else:
        pushed.show(done)
    return 0

"""Completes a command line in bash, zsh and fish, by argcomplete.

``eval "$(register-python-argcomplete resnetkit)"`` makes a shell run ``resnetkit`` with the line so
far in its environment; the parser of the line's command answers.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Mapping

import argcomplete

from resnetkit.architecture.registry import list_models

#: Arguments that are names of networks.
_NETWORKS = {
    ("explain", "name"),
    ("view", "name"),
    ("compare", "first"),
    ("compare", "second"),
    ("train", "model"),
}


def complete(commands: Mapping[str, str]) -> None:
    """Write the completions of the line in ``COMP_LINE``, and exit."""
    parser = argparse.ArgumentParser(prog="resnetkit")
    parser.add_argument("--version", action="store_true")
    subparsers = parser.add_subparsers()
    written = os.environ["COMP_LINE"].split()[1:2]
    for name, about in commands.items():
        command = subparsers.add_parser(name, help=about)
        if [name] == written:
            importlib.import_module(f"resnetkit.cli.{name}").arguments(command)
            for action in command._actions:
                if (name, action.dest) in _NETWORKS:
                    action.choices = list_models()
    argcomplete.autocomplete(parser)

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
from argcomplete.completers import FilesCompleter

from resnetkit.architecture.registry import list_models

#: Arguments that are names of networks; and those that may be files as well.
_NETWORKS = {("train", "model")}
_NETWORKS_OR_FILES = {
    ("compare", "first"),
    ("compare", "second"),
    ("explain", "model"),
    ("view", "model"),
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
                if (name, action.dest) in _NETWORKS_OR_FILES:
                    action.completer = _network_or_file  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser)


def _network_or_file(prefix: str, **_: object) -> list[str]:
    names = [name for name in list_models() if name.startswith(prefix)]
    return [*names, *FilesCompleter()(prefix)]

"""Library messages for the command line: parameters become flags."""

from __future__ import annotations

import ast
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from resnetkit.errors import InputError

#: Parameters whose flag has another name.
_FLAGS = {
    "pretrained": "--from",
    "facts": "--try",
    "api_keys": "--api-key-file",
    "max_queue_delay": "--patience",
    "max_queue_size": "--waiting",
    "repo_id": "OWNER/NAME",
}
#: Seconds in which torchrun ends a process after another one.
_ENDED = 30.0
_VALUE = r"(\[[^\]]*\]|'[^']*'|[\w.*/-]+)"
#: Functions whose command has another name.
_COMMANDS = {"benchmark": "bench", "list_models": "catalog", "compare_runs": "runs"}
_NAMES = "catalog|list_models|identify|convert|evaluate|predict|export|train|fetch|benchmark|serve"


def flag_of(field: str) -> str:
    """The flag of a parameter."""
    return _FLAGS.get(field, f"--{field.replace('_', '-')}")


def in_flags(error: InputError) -> str:
    """An error message with parameters replaced by flags.

    ``lr is 0`` becomes ``--lr is 0``, ``norm='group'`` becomes ``--norm group``, ``ema=False``
    ``--no-ema``, ``resnetkit.resume('run')`` ``--resume run``.
    """
    text = str(error)
    for field in error.fields:
        name = field.removesuffix("=")
        text = re.sub(rf"(?<![\w.-]){name}={_VALUE}", _assigned(flag_of(name)), text)
        if name == field:
            text = re.sub(rf"(?<![\w./-]){name}(?![\w/=(]|\.\w)", flag_of(field), text)
    text = re.sub(r"resnetkit\.resume\('([^']*)'\)", r"--resume \1", text)
    return re.sub(rf"resnetkit\.({_NAMES})\b", _command, text)


@contextmanager
def told_once() -> Iterator[None]:
    """For errors that all processes of torchrun have, as their arguments are the same.

    Rank 0 raises it, and the others end silently.
    """
    try:
        yield
    except InputError:
        if not is_rank_0():
            # torchrun ends all processes after the first, which would have to be silent.
            time.sleep(_ENDED)
            raise SystemExit(2) from None
        raise


def under_torchrun() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_rank_0() -> bool:
    """Whether this is rank 0 of torchrun's processes, or not one of them."""
    return not under_torchrun() or os.environ.get("RANK") == "0"


def _assigned(flag: str) -> Callable[[re.Match[str]], str]:
    def shown(found: re.Match[str]) -> str:
        value = found[1]
        if value in ("True", "False"):
            return flag if value == "True" else flag.replace("--", "--no-", 1)
        if value.startswith("["):
            return " ".join(f"{flag} {one}" for one in ast.literal_eval(value))
        return f"{flag} {value.strip(chr(39))}"

    return shown


def _command(found: re.Match[str]) -> str:
    return f"`resnetkit {_COMMANDS.get(found[1], found[1])}`"

"""Reads a pickle as data: the stack machine of pickle's opcodes, without anything to run.

A pickle is a program that names functions and has them called. Here no name is ever looked up. For
those in ``allowed.ALLOWED`` a function of ours says what a call means; every other call makes an
``Inert``: the name, the arguments, and the state and items that the pickle gives it, as data. What
only an attack asks for (``attacks.py``) is refused by its name wherever it stands.

Python's own ``pickle.Unpickler`` is not used, because a restricted ``find_class`` leaves open what
its opcodes do by themselves: a memo index or a false length that allocates gigabytes, dictionary
keys that take forever to hash or overflow the C stack. Opcodes are those of ``pickletools`` in
Python's standard library, protocols 0 to 5.
"""

from __future__ import annotations

import codecs
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from resnetkit.formats.container import UnfitError, short
from resnetkit.formats.file_window import Window
from resnetkit.formats.unpickler.denylist import is_attack

#: Opcodes, and items copied by them. A training checkpoint of a ResNet-152 has a tenth of it.
MOST_WORK = 1_000_000
#: Longer texts and bytes stay in the file.
MOST_HELD = 1 << 16
DAMAGED = "holds a damaged pickle; get it again"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Span:
    """Bytes that stay in the file. A ``coding`` other than ``raw`` stands for a text of bytes:

    ``utf-8``, ``raw-unicode-escape`` (protocol 0), or ``escape`` (a ``repr`` of Python 2).
    """

    offset: int
    length: int
    coding: str = "raw"


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A function or class that a pickle asks for; a name, never the thing."""

    name: str


class Inert:
    """What a pickle would have made by a call: the name and arguments of it, and what came after.

    ``state`` is what the object would have been given, ``items`` its keys and values where it is
    filled like a dict, ``members`` where like a list or set. Nothing of it is ever run.
    """

    def __init__(self, name: str, args: tuple[Any, ...] = ()) -> None:
        self.name, self.args = name, args
        self.state: Any = None
        self.items: dict[Any, Any] = {}
        self.members: list[Any] = []


class Machine:
    """The stack, the marks and the memo of a pickle that is read from ``window``.

    ``allowed`` says by name what a call means: a function of the arguments, or None for a name that
    may only be an argument; without it no name may be asked for. ``persistent`` makes something of
    the storages of a torch file.
    """

    def __init__(
        self,
        window: Window,
        allowed: Mapping[str, Callable[..., Any] | None],
        persistent: Callable[[object], object] | None = None,
    ) -> None:
        self.window = window
        self.allowed = allowed
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.work = 0

    def spend(self, count: int) -> None:
        """Account for work. Raises ``UnfitError`` above ``MOST_WORK``."""
        self.work += count
        if self.work > MOST_WORK:
            raise UnfitError(
                f"holds a pickle of more than {MOST_WORK} steps; no checkpoint needs them"
            )

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise UnfitError(DAMAGED)
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise UnfitError(DAMAGED)
        return self.stack[-1]

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def to_mark(self) -> list[Any]:
        """What was pushed since the last mark."""
        if not self.marks:
            raise UnfitError(DAMAGED)
        items, self.stack = self.stack, self.marks.pop()
        return items

    def line(self) -> str:
        """A line of a few characters: a number or a name."""
        offset, length = self.window.skip_line()
        if length > 1000:
            raise UnfitError(DAMAGED)
        return self.window.again(offset, length).decode("latin-1")

    def held(self, count: int, coding: str) -> None:
        """Push a text (``utf-8``, ``latin-1``) or bytes (``raw``); a long one stays in the file."""
        if count > MOST_HELD:
            where = self.window.skip(count)
            coding = "utf-8" if coding == "utf-8" else "raw"
            self.push(Span(offset=where, length=count, coding=coding))
        else:
            data = self.window.take(count)
            self.push(data if coding == "raw" else decoded(data, coding))

    def ask(self, module: object, name: object) -> None:
        """Push a name that the pickle asks for. Raises ``UnfitError`` for one not allowed."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnfitError(DAMAGED)
        for old, new in _RENAMED:
            if module == old or module.startswith(f"{old}."):
                module = new + module[len(old) :]
        asked = f"{module}.{name}"
        if is_attack(asked):
            raise UnfitError(
                f"asks for {short(asked)}, which no weights need and attacks use; do not load it "
                "with anything that would run it"
            )
        if not self.allowed:
            raise UnfitError(f"asks for {short(asked)} where only numbers stand; it is damaged")
        self.push(Name(name=asked))

    def call(self, asked: object, args: object) -> None:
        """Push what a call means."""
        if isinstance(asked, Inert):  # what a call would have made is called in turn
            asked = Name(name=asked.name)
        if not isinstance(asked, Name):
            raise UnfitError(DAMAGED)
        if asked.name not in self.allowed:
            self.push(Inert(asked.name, args if isinstance(args, tuple) else (args,)))
            return
        if not isinstance(args, tuple):
            raise UnfitError(DAMAGED)
        meaning = self.allowed[asked.name]
        if meaning is None:
            raise UnfitError(f"calls {asked.name}, which is refused")
        # Some copy what they are given, which may have been given before.
        self.spend(sum(len(arg) for arg in args if isinstance(arg, (list, tuple, dict))))
        self.push(meaning(args))

    def build(self) -> None:
        """Give a state to the object on top of the stack."""
        state, target = self.pop(), self.top()
        if isinstance(target, Built):
            target.build(state)
        elif isinstance(target, Inert):
            target.state = state
        elif not isinstance(target, (dict, set, list, Name)):
            raise UnfitError(f"gives a state to {short(type(target).__name__)}, which has none")
        # A state of a dict is the _metadata of torch's state_dict: versions of modules.

    def fill(self, target: object, items: list[Any]) -> None:
        """Put keys and values, which alternate, into a dict."""
        if isinstance(target, Inert):
            target = target.items
        if not isinstance(target, dict) or len(items) % 2:
            raise UnfitError(DAMAGED)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[key_of(key)] = value

    def extend(self, target: object, items: list[Any]) -> None:
        """Append to a list, add to a set."""
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, Inert):
            target.members.extend(items)
        elif isinstance(target, set):
            target.update(map(key_of, items))
        else:
            raise UnfitError(DAMAGED)

    def remember(self, index: int) -> None:
        self.memo[index] = self.top()

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise UnfitError(DAMAGED)
        self.push(self.memo[index])

    def drop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.to_mark()

    def store(self) -> None:
        """Push the storage that a torch file refers to."""
        if self.persistent is None:
            raise UnfitError("refers to objects outside it, which is refused")
        self.push(self.persistent(self.pop()))

    def protocol(self) -> None:
        if (version := self.window.number(1)) > 5:
            raise UnfitError(f"holds a pickle of protocol {version}; 0 to 5 are read")


class Key:
    """Something else than a text or a number as a key; equal to itself alone."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __str__(self) -> str:
        plain = isinstance(self.value, (int, tuple))
        return short(self.value) if plain else short(type(self.value).__name__)


class Built(ABC):
    """Something of ours that a pickle first makes and then gives a state."""

    @abstractmethod
    def build(self, state: object) -> None:
        """Take the state."""


def key_of(value: object) -> Any:
    """``value`` where it may be a key: a text or number, whose hash takes no time.

    Others are keys of what is beside the weights: each is one of its own, of its kind.
    """
    if value is None or isinstance(value, (str, bytes, float)):
        return value
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 64:
        return value
    return Key(value)


#: Names of Python 2 and of numpy 2 for what numpy 1 and Python 3 call otherwise.
_RENAMED = (("__builtin__", "builtins"), ("copy_reg", "copyreg"), ("numpy._core", "numpy.core"))


def decoded(data: bytes, coding: str) -> str:
    """A short text. Raises ``UnfitError`` for bytes that are none."""
    try:
        text = data.decode(coding)
        text.encode()
    except UnicodeError:
        raise UnfitError(DAMAGED) from None
    return text


#: What a ``repr`` of Python 2 may hold; anything else would be a warning of Python's decoder.
_ESCAPED = re.compile(rb"(?:[^\\]++|\\[\\'\"nrt]|\\x[0-9a-f]{2})*+", re.DOTALL)


def unescaped(data: bytes) -> bytes:
    """The bytes that a ``repr`` of Python 2 stands for."""
    if b"\\" not in data:
        return data
    if not _ESCAPED.fullmatch(data):
        raise UnfitError(DAMAGED)
    return codecs.escape_decode(data)[0]

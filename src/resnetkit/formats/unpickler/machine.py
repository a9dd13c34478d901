"""Reads a pickle as data: a stack machine for pickle's opcodes that executes nothing.

A pickle is a program that names functions to call. Here no name is ever looked up. For names in
``allowlist.ALLOWED`` our own function interprets the call; every other call makes an ``Inert``: the
name, the arguments, and the state and items, as data. Names that only attacks use (``denylist.py``)
are rejected anywhere.

Python's own ``pickle.Unpickler`` is not used, because a restricted ``find_class`` does not guard
the opcodes themselves: a memo index or a false length that allocates gigabytes, dictionary keys
that take forever to hash or overflow the C stack. Opcodes are those of ``pickletools`` in
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

#: Maximum number of opcodes and copied items; ten times that of a ResNet-152 training checkpoint.
MOST_WORK = 1_000_000
#: Longer strings and bytes stay in the file.
MOST_HELD = 1 << 16
DAMAGED = "holds a damaged pickle; get it again"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Span:
    """Bytes that stay in the file. A ``coding`` other than ``raw`` is an encoded string of bytes:

    ``utf-8``, ``raw-unicode-escape`` (protocol 0), or ``escape`` (a ``repr`` of Python 2).
    """

    offset: int
    length: int
    coding: str = "raw"


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A global of a pickle: the name of a function or class, never the object."""

    name: str


class Inert:
    """A call in a pickle that is not executed: its name, arguments, and later state.

    ``state`` is the argument of BUILD, ``items`` the keys and values if it is filled like a dict,
    ``members`` if like a list or set. Nothing is executed.
    """

    def __init__(self, name: str, args: tuple[Any, ...] = ()) -> None:
        self.name, self.args = name, args
        self.state: Any = None
        self.items: dict[Any, Any] = {}
        self.members: list[Any] = []


class Machine:
    """The stack, marks and memo of a pickle read from ``window``.

    ``allowed`` maps names to functions of the arguments, or None for names that may only be
    arguments; without it all names are rejected. ``persistent`` resolves the storages of a torch
    file.
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
                f"holds a pickle of more than {MOST_WORK} steps, too many for a checkpoint"
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
        """The items pushed since the last mark."""
        if not self.marks:
            raise UnfitError(DAMAGED)
        items, self.stack = self.stack, self.marks.pop()
        return items

    def line(self) -> str:
        """A short line: a number or a name."""
        offset, length = self.window.skip_line()
        if length > 1000:
            raise UnfitError(DAMAGED)
        return self.window.again(offset, length).decode("latin-1")

    def held(self, count: int, coding: str) -> None:
        """Push a string (``utf-8``, ``latin-1``) or bytes (``raw``); long ones stay in the file."""
        if count > MOST_HELD:
            where = self.window.skip(count)
            coding = "utf-8" if coding == "utf-8" else "raw"
            self.push(Span(offset=where, length=count, coding=coding))
        else:
            data = self.window.take(count)
            self.push(data if coding == "raw" else decoded(data, coding))

    def ask(self, module: object, name: object) -> None:
        """Push a global. Raises ``UnfitError`` if it is not allowed."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnfitError(DAMAGED)
        for old, new in _RENAMED:
            if module == old or module.startswith(f"{old}."):
                module = new + module[len(old) :]
        asked = f"{module}.{name}"
        if is_attack(asked):
            raise UnfitError(
                f"asks for {short(asked)}, which only attacks need; do not load it "
                "with anything that would execute it"
            )
        if not self.allowed:
            raise UnfitError(f"asks for {short(asked)} instead of a number; it is damaged")
        self.push(Name(name=asked))

    def call(self, asked: object, args: object) -> None:
        """Push the result of an interpreted call."""
        if isinstance(asked, Inert):  # the result of a call is called in turn
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
        # Some copy their arguments, which may be shared.
        self.spend(sum(len(arg) for arg in args if isinstance(arg, (list, tuple, dict))))
        self.push(meaning(args))

    def build(self) -> None:
        """Set the state of the object on top of the stack."""
        state, target = self.pop(), self.top()
        if isinstance(target, Built):
            target.build(state)
        elif isinstance(target, Inert):
            target.state = state
        elif not isinstance(target, (dict, set, list, Name)):
            raise UnfitError(f"gives a state to {short(type(target).__name__)}, which has none")
        # A state of a dict is the _metadata of torch's state_dict: versions of modules.

    def fill(self, target: object, items: list[Any]) -> None:
        """Put alternating keys and values into a dict."""
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
    """A key that is not a string or a number; equal only to itself."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __str__(self) -> str:
        plain = isinstance(self.value, (int, tuple))
        return short(self.value) if plain else short(type(self.value).__name__)


class Built(ABC):
    """An object that a pickle first creates and then gives a state."""

    @abstractmethod
    def build(self, state: object) -> None:
        """Set the state."""


def key_of(value: object) -> Any:
    """``value`` if it may be a key: a string or number, which hashes fast.

    Other keys belong to metadata; each becomes a unique key of its type.
    """
    if value is None or isinstance(value, (str, bytes, float)):
        return value
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 64:
        return value
    return Key(value)


#: Names in Python 2 and numpy 2, and their equivalents in Python 3 and numpy 1.
_RENAMED = (("__builtin__", "builtins"), ("copy_reg", "copyreg"), ("numpy._core", "numpy.core"))


def decoded(data: bytes, coding: str) -> str:
    """A short string. Raises ``UnfitError`` for invalid bytes."""
    try:
        text = data.decode(coding)
        text.encode()
    except UnicodeError:
        raise UnfitError(DAMAGED) from None
    return text


#: Escapes allowed in a Python 2 ``repr``; others would make Python's decoder warn.
_ESCAPED = re.compile(rb"(?:[^\\]++|\\[\\'\"nrt]|\\x[0-9a-f]{2})*+", re.DOTALL)


def unescaped(data: bytes) -> bytes:
    """The bytes of a Python 2 ``repr``."""
    if b"\\" not in data:
        return data
    if not _ESCAPED.fullmatch(data):
        raise UnfitError(DAMAGED)
    return codecs.escape_decode(data)[0]

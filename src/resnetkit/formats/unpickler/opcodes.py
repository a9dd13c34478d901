"""The opcodes of pickle, protocols 0 to 5, as steps of ``Machine``."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from resnetkit.formats.container import UnfitError
from resnetkit.formats.file_window import Window
from resnetkit.formats.unpickler.machine import (
    DAMAGED,
    MOST_HELD,
    Machine,
    Name,
    Span,
    decoded,
    key_of,
    unescaped,
)


def unpickle(
    window: Window,
    allowed: Mapping[str, Callable[..., Any] | None],
    persistent: Callable[[object], object] | None = None,
) -> Any:
    """The contents of one pickle; the window is then positioned after it.

    Raises ``UnfitError`` for anything that ``Machine`` does not allow.
    """
    machine = Machine(window, allowed, persistent)
    while (opcode := window.take(1)) != b".":
        step = STEPS.get(opcode)
        if step is None:
            raise UnfitError(f"holds a pickle with the opcode {opcode!r}, which is refused")
        machine.spend(1)
        step(machine)
    return machine.pop()


def _number(text: str) -> Any:
    if text in ("00", "01"):
        return text == "01"
    return _parsed(int, text.removesuffix("L"))


def _parsed(kind: Callable[[str], Any], text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise UnfitError(DAMAGED) from None


def _long(machine: Machine, count: int) -> None:
    if count > 255:
        raise UnfitError(f"holds an integer of {count} bytes, too long for a checkpoint")
    machine.push(machine.window.number(count, signed=True))


def _string(machine: Machine) -> None:
    """A Python 2 string as its ``repr``: quoted, with escapes."""
    offset, length = machine.window.skip_line()
    if length < 2:
        raise UnfitError(DAMAGED)
    if length > MOST_HELD:
        machine.push(Span(offset=offset + 1, length=length - 2, coding="escape"))
        return
    line = machine.window.again(offset, length)
    if line[:1] not in (b"'", b'"') or line[:1] != line[-1:]:
        raise UnfitError(DAMAGED)
    machine.push(unescaped(line[1:-1]).decode("latin-1"))


def _unicode(machine: Machine) -> None:
    offset, length = machine.window.skip_line()
    if length > MOST_HELD:
        machine.push(Span(offset=offset, length=length, coding="raw-unicode-escape"))
    else:
        machine.push(decoded(machine.window.again(offset, length), "raw-unicode-escape"))


def _float(machine: Machine) -> None:
    machine.push(struct.unpack(">d", machine.window.take(8))[0])


def _tuple(machine: Machine, count: int) -> None:
    items = [machine.pop() for _ in range(count)]
    machine.push(tuple(reversed(items)))


def _global(machine: Machine) -> None:
    module = machine.line()
    machine.ask(module, machine.line())


def _stack_global(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.ask(module, name)


def _inst(machine: Machine) -> None:
    args = tuple(machine.to_mark())
    _global(machine)
    machine.call(machine.pop(), args)


def _obj(machine: Machine) -> None:
    items = machine.to_mark()
    machine.call(items[0] if items else None, tuple(items[1:]))


def _call(machine: Machine) -> None:
    args, asked = machine.pop(), machine.pop()
    machine.call(asked, args)


def _call_with_names(machine: Machine) -> None:
    named, args, asked = machine.pop(), machine.pop(), machine.pop()
    known = isinstance(asked, Name) and asked.name in machine.allowed
    if not isinstance(named, dict) or (known and named):
        raise UnfitError(DAMAGED)
    machine.call(asked, args)


def _dict(machine: Machine) -> None:
    items = machine.to_mark()
    machine.push({})
    machine.fill(machine.top(), items)


def _setitem(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.fill(machine.top(), [key, value])


def _setitems(machine: Machine) -> None:
    items = machine.to_mark()
    machine.fill(machine.top(), items)


def _append(machine: Machine) -> None:
    item = machine.pop()
    machine.extend(machine.top(), [item])


def _extend(machine: Machine) -> None:
    items = machine.to_mark()
    machine.extend(machine.top(), items)


def _frozenset(machine: Machine) -> None:
    machine.push(frozenset(map(key_of, machine.to_mark())))


#: The handler of each opcode; names as in ``pickletools``.
STEPS: Mapping[bytes, Callable[[Machine], object]] = {
    b"\x80": Machine.protocol,  # PROTO
    b"\x95": lambda m: m.window.take(8),  # FRAME: a hint for readers
    b"(": Machine.mark,  # MARK
    b"0": Machine.drop,  # POP
    b"1": Machine.to_mark,  # POP_MARK
    b"2": lambda m: m.push(m.top()),  # DUP
    b"N": lambda m: m.push(None),  # NONE
    b"\x88": lambda m: m.push(True),  # NEWTRUE
    b"\x89": lambda m: m.push(False),  # NEWFALSE
    b"I": lambda m: m.push(_number(m.line())),  # INT
    b"L": lambda m: m.push(_number(m.line())),  # LONG
    b"J": lambda m: m.push(m.window.number(4, signed=True)),  # BININT
    b"K": lambda m: m.push(m.window.number(1)),  # BININT1
    b"M": lambda m: m.push(m.window.number(2)),  # BININT2
    b"\x8a": lambda m: _long(m, m.window.number(1)),  # LONG1
    b"\x8b": lambda m: _long(m, m.window.number(4)),  # LONG4
    b"F": lambda m: m.push(_parsed(float, m.line())),  # FLOAT
    b"G": _float,  # BINFLOAT
    b"S": _string,  # STRING
    b"T": lambda m: m.held(m.window.number(4), "latin-1"),  # BINSTRING
    b"U": lambda m: m.held(m.window.number(1), "latin-1"),  # SHORT_BINSTRING
    b"B": lambda m: m.held(m.window.number(4), "raw"),  # BINBYTES
    b"C": lambda m: m.held(m.window.number(1), "raw"),  # SHORT_BINBYTES
    b"\x8e": lambda m: m.held(m.window.number(8), "raw"),  # BINBYTES8
    b"\x96": lambda m: m.held(m.window.number(8), "raw"),  # BYTEARRAY8
    b"\x98": Machine.top,  # READONLY_BUFFER
    b"V": _unicode,  # UNICODE
    b"X": lambda m: m.held(m.window.number(4), "utf-8"),  # BINUNICODE
    b"\x8c": lambda m: m.held(m.window.number(1), "utf-8"),  # SHORT_BINUNICODE
    b"\x8d": lambda m: m.held(m.window.number(8), "utf-8"),  # BINUNICODE8
    b")": lambda m: m.push(()),  # EMPTY_TUPLE
    b"t": lambda m: m.push(tuple(m.to_mark())),  # TUPLE
    b"\x85": lambda m: _tuple(m, 1),  # TUPLE1
    b"\x86": lambda m: _tuple(m, 2),  # TUPLE2
    b"\x87": lambda m: _tuple(m, 3),  # TUPLE3
    b"]": lambda m: m.push([]),  # EMPTY_LIST
    b"l": lambda m: m.push(m.to_mark()),  # LIST
    b"a": _append,  # APPEND
    b"e": _extend,  # APPENDS
    b"}": lambda m: m.push({}),  # EMPTY_DICT
    b"d": _dict,  # DICT
    b"s": _setitem,  # SETITEM
    b"u": _setitems,  # SETITEMS
    b"\x8f": lambda m: m.push(set()),  # EMPTY_SET
    b"\x90": _extend,  # ADDITEMS
    b"\x91": _frozenset,  # FROZENSET
    b"p": lambda m: m.remember(_number(m.line())),  # PUT
    b"q": lambda m: m.remember(m.window.number(1)),  # BINPUT
    b"r": lambda m: m.remember(m.window.number(4)),  # LONG_BINPUT
    b"\x94": lambda m: m.remember(len(m.memo)),  # MEMOIZE
    b"g": lambda m: m.recall(_number(m.line())),  # GET
    b"h": lambda m: m.recall(m.window.number(1)),  # BINGET
    b"j": lambda m: m.recall(m.window.number(4)),  # LONG_BINGET
    b"c": _global,  # GLOBAL
    b"\x93": _stack_global,  # STACK_GLOBAL
    b"i": _inst,  # INST
    b"o": _obj,  # OBJ
    b"R": _call,  # REDUCE
    b"\x81": _call,  # NEWOBJ
    b"\x92": _call_with_names,  # NEWOBJ_EX
    b"b": Machine.build,  # BUILD
    b"Q": Machine.store,  # BINPERSID
}

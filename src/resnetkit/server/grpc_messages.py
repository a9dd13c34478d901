"""Classes of protobuf messages, made from the ``.proto`` files of this folder when they are used.

Code that ``protoc`` generates requires the protobuf of its version or a later one, and puts its
descriptors into one pool with those of any client in the process that has messages of these names.
The classes made here run with every protobuf that has ``message_factory``, and have their own pool.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

_OPENING = re.compile(r"(message|enum|oneof|service) (\w+) \{")
_RPC = re.compile(r"rpc (\w+)\((\w+)\) returns \((\w+)\);")
_VALUE = re.compile(r"(\w+) = (\d+);")
_FIELD = re.compile(r"(repeated )?(\w+) (\w+) = (\d+);")
_MAP = re.compile(r"map<string, (\w+)> (\w+) = (\d+);")


@cache
def messages(name: str) -> dict[str, Any]:
    """The classes of the messages of ``name.proto``."""
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    file = described(name)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    found = pool.FindFileByName(file.name).message_types_by_name
    return {key: GetMessageClass(one) for key, one in found.items()}


@cache
def described(name: str) -> Any:
    """The ``FileDescriptorProto`` of ``name.proto``.

    A line is empty, a comment, or has one declaration. There are services, messages, enums,
    ``oneof`` and maps from strings.
    """
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    path = f"{name}.proto"
    file = FileDescriptorProto(name=f"resnetkit/{path}", syntax="proto3")
    open_ones: list[tuple[str, Any]] = [("file", file)]
    for text in (files("resnetkit.server") / path).read_text(encoding="utf-8").splitlines():
        line = text.strip()
        kind, inside = open_ones[-1]
        if not line or line.startswith(("//", "syntax ")):
            continue
        if line == "}":
            open_ones.pop()
        elif line.startswith("package "):
            file.package = line.split()[1].rstrip(";")
        elif found := _OPENING.fullmatch(line):
            open_ones.append((found[1], _added(inside, kind, found[1], found[2])))
        elif found := _RPC.fullmatch(line):
            inside.method.add(name=found[1], input_type=found[2], output_type=found[3])
        elif kind == "enum" and (found := _VALUE.fullmatch(line)):
            inside.value.add(name=found[1], number=int(found[2]))
        else:
            field = _field(inside, line)
            if kind == "oneof":
                field.oneof_index = len(inside.oneof_decl) - 1
    return file


def _added(inside: Any, outer: str, kind: str, name: str) -> Any:
    """A declaration that is added to the one around it; a ``oneof`` is part of its message."""
    if kind == "oneof":
        inside.oneof_decl.add(name=name)
        return inside
    if kind == "message":
        return (inside.message_type if outer == "file" else inside.nested_type).add(name=name)
    return (inside.service if kind == "service" else inside.enum_type).add(name=name)


def _field(message: Any, line: str) -> Any:
    """A field that is added to a message."""
    if found := _MAP.fullmatch(line):
        entry = "".join(word.title() for word in found[2].split("_")) + "Entry"
        pair = message.nested_type.add(name=entry)
        pair.options.map_entry = True
        _field(pair, "string key = 1;")
        _field(pair, f"{found[1]} value = 2;")
        return _field(message, f"repeated {entry} {found[2]} = {found[3]};")
    found = _FIELD.fullmatch(line)
    if found is None:
        raise ValueError(f"{line!r} is no declaration that is read here")
    field = message.field.add(name=found[3], number=int(found[4]))
    field.label = field.LABEL_REPEATED if found[1] else field.LABEL_OPTIONAL
    scalar = f"TYPE_{found[2].upper()}"
    if hasattr(field, scalar):
        field.type = getattr(field, scalar)
    else:
        field.type_name = found[2]
    return field

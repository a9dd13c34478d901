"""Tar archives that are damaged, false, huge or odd: nothing in them is lost without a word."""

from __future__ import annotations

import io
import tarfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnetkit.data.datasets import tar
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.listing import members
from resnetkit.errors import InputError

BLOCK = 512


def archive(names: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as file:
        for name, data in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return made.getvalue()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info.tobuf(tarfile.GNU_FORMAT)


def again(block: bytes, place: slice, data: bytes) -> bytes:
    """A header with other bytes somewhere, and the right checksum."""
    changed = bytearray(block)
    changed[place] = data
    changed[148:156] = b" " * 8
    changed[148:156] = f"{sum(changed):06o}\0 ".encode()
    return bytes(changed)


def found(content: bytes, path: Path) -> tuple[dict[str, bytes], str | None]:
    """The files of an archive, and why it cannot be read on."""
    path.write_bytes(content)
    files: dict[str, bytes] = {}
    try:
        for member in tar.members(path):
            files[member.name] = member.read()
    except tar.TarError as error:
        return files, str(error)
    return files, None


FILES = {"a.png": b"1" * 700, "b/" + "x" * 200 + ".png": b"2" * 512, "ü猫.png": b"", "c.png": b"3"}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_every_kind_is_read_as_by_tarfile(form: int, mode: str, tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    names = {"b/c.png": b"x"} | ({} if form == tarfile.USTAR_FORMAT else FILES)
    with tarfile.open(path, mode, format=form) as file:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        file.addfile(folder)
        for name, data in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    assert found(path.read_bytes(), path) == (names, None)
    with tarfile.open(path) as file:
        offsets = {member.name: member.offset_data for member in file if member.isfile()}
    assert {member.name: member.offset for member in tar.members(path)} == offsets


def test_archives_behind_each_other_are_read_as_one(tmp_path: Path) -> None:
    first, second = archive({"a.png": b"1"}), archive({"b.png": b"2"})
    assert found(first + second, tmp_path / "s.tar") == ({"a.png": b"1", "b.png": b"2"}, None)
    assert found(first + b"garbage" * 200, tmp_path / "s.tar") == ({"a.png": b"1"}, None)


HUGE = (1 << 62).to_bytes(11, "big")
#: What stands behind one good file, and the words that say what is wrong.
WRONG: dict[str, tuple[bytes, str]] = {
    "a damaged header": (b"x" + header("b.png", 3)[1:] + bytes(BLOCK), "damaged header at byte"),
    "a negative size": (again(header("b.png", 3), slice(124, 136), b"\xff" * 12), "false size"),
    "a huge size": (again(header("b.png", 3), slice(124, 136), b"\x80" + HUGE), "false size"),
    "a size beyond the end": (header("b.png", 1 << 30), "ends in the middle of 'b.png'"),
    "a long name of 2 GB": (header("././@LongLink", 1 << 31, tarfile.GNUTYPE_LONGNAME),
                            "ends in the middle|name or header of"),
    "a pax header of 2 MB": (header("x", 2 << 20, tarfile.XHDTYPE) + bytes(2 << 20),
                             "name or header of 2,097,152 bytes"),
    "a pax size of 10^23": (header("x", 33, tarfile.XHDTYPE) + b"33 size=100000000000000000000000\n"
                            + bytes(BLOCK - 33) + header("b.png", 3), "false size"),
    "a negative pax size": (header("x", 11, tarfile.XHDTYPE) + b"11 size=-5\n" + bytes(BLOCK - 11)
                            + header("b.png", 3), "false size"),
    "a pax record of a false length": (header("x", 11, tarfile.XHDTYPE) + b"99 path=ab\n"
                                       + bytes(BLOCK - 11), "damaged header"),
    "a sparse file": (header("b.png", 0, tarfile.GNUTYPE_SPARSE), "sparse file"),
    "half a header": (header("b.png", 3)[:100], "middle of a header"),
    "no end": (b"", "without the end of an archive"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_and_what_stood_before_is_there(name: str, tmp_path: Path) -> None:
    content, reason = WRONG[name]
    path = tmp_path / "s.tar"
    tracemalloc.start()
    begin = time.perf_counter()
    try:
        files, told = found(header("a.png", 1) + b"1" + bytes(BLOCK - 1) + content, path)
        peak = tracemalloc.get_traced_memory()[1] >> 20
    finally:
        tracemalloc.stop()
    assert files == {"a.png": b"1"}
    assert told is not None
    assert any(part in told for part in reason.split("|")), told
    assert peak < 20
    assert time.perf_counter() - begin < 5
    *_, last = members(str(path))
    assert last.problem is not None
    assert "cannot be read on" in last.problem
    with pytest.raises(InputError) as caught:
        open_dataset(path)
    assert "\n" not in str(caught.value)


def test_links_are_not_pictures(tmp_path: Path) -> None:
    content = header("b.png", 0, tarfile.LNKTYPE, "a.png") + bytes(2 * BLOCK)
    (tmp_path / "s.tar").write_bytes(header("a.png", 1) + b"1" + bytes(BLOCK - 1) + content)
    first, second = members(str(tmp_path / "s.tar"))
    assert first.image == b"1"
    assert second.problem == "it is a link to 'a.png'; pack the file itself"
    with pytest.raises(InputError, match=r"'b\.png', which is a link to 'a\.png'"):
        open_dataset(tmp_path / "s.tar")


def test_a_packed_shard_cannot_be_trained_from(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w:gz") as file:
        file.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(InputError, match="is compressed; unpack it"):
        open_dataset(tmp_path / "s.tar")


def _cut(data: bytes, at: int) -> bytes:
    return data[: at % len(data)]


def _flip(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at % len(data)] ^= 1 << (at % 8)
    return bytes(changed)


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.sampled_from([_cut, _flip]), st.integers(0, 1 << 16)), min_size=1, max_size=4
    )
)
def test_no_file_is_lost_without_a_word(
    changes: list[tuple[Callable[[bytes, int], bytes], int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """However it is cut and flipped: a good prefix, and a reason where not all of it is there."""
    content = archive(FILES)
    for change, at in changes:
        content = change(content, at) or b"\0"
    files, told = found(content, tmp_path_factory.getbasetemp() / "fuzzed.tar")
    if told is None:
        assert len(files) == len(FILES)
    else:
        assert "\n" not in told

"""What paths, patterns, shards and lists of names stand for."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from resnetkit.data import listing
from resnetkit.data.listing import ImageSource, braces, expanded, listed, members, walk
from resnetkit.errors import InputError


def tree(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def names(root: Path) -> list[str]:
    return [os.path.relpath(one.name, root) for one in walk(str(root))]


def test_sorted_by_the_parts_of_the_paths(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "a/1.PNG", "a-b/2.jpg", "b.png", "a/c/3.gif", ".h/4.png", "a/.5.png")
    tree(tmp_path, "note.txt")
    found = names(tmp_path)
    assert found == ["a/1.PNG", "a/c/3.gif", "a-b/2.jpg", "a.png", "b.png"]
    assert found == [
        str(path.relative_to(tmp_path)) for path in sorted(map(tmp_path.joinpath, found))
    ]


def test_links(tmp_path: Path) -> None:
    tree(tmp_path, "in/a.png", "out/b.png")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/out.png").symlink_to(tmp_path / "out")
    (tmp_path / "in/link.png").symlink_to(tmp_path / "out/b.png")
    (tmp_path / "in/itself.png").symlink_to(tmp_path / "in/itself.png")
    # Links to folders are followed, but not in circles.
    assert names(tmp_path / "in") == ["a.png", "itself.png", "link.png", "out.png/b.png"]
    (tmp_path / "out/back").symlink_to(tmp_path / "in")
    assert names(tmp_path / "in") == ["a.png", "itself.png", "link.png", "out.png/b.png"]


def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path, "a/1.png", "b/2.png")
    real = listing._inside

    def fake(folder: str, endings: None) -> list[str]:
        if folder.endswith("/a/"):
            raise PermissionError(13, "Permission denied")  # which root never gets
        return real(folder, endings)

    monkeypatch.setattr(listing, "_inside", fake)
    first, second = walk(str(tmp_path))
    assert first.name == str(tmp_path / "a") + os.sep
    assert first.problem is not None
    assert "Permission denied" in first.problem
    assert second.name == str(tmp_path / "b/2.png")


def shard(path: Path, mode: str, **contents: bytes) -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in contents.items():
            info = tarfile.TarInfo(name.replace("__", "/").replace("_", "."))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_shards(mode: str, tmp_path: Path) -> None:
    contents = {"b_jpg": b"1", "b_cls": b"2", "x__a_left_PNG": b"3", "_hidden_png": b"4"}
    path = shard(tmp_path / ("s.tar" if mode == "w" else "s.tar.gz"), mode, **contents)
    assert [(one.name, one.image) for one in listed([str(path)])] == [
        (f"{path}/b.jpg", b"1"),
        (f"{path}/x/a.left.PNG", b"3"),
    ]


def test_broken_shards_end_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shard(tmp_path / "s.tar", "w", a_png=b"1" * 5000, b_png=b"2" * 5000)
    whole = path.read_bytes()
    for cut in (0, 100, 512, 3000, 6500):
        path.write_bytes(whole[:cut])
        found = list(members(str(path)))
        assert found[-1].problem, cut
        assert found[-1].name.startswith(str(path))
    path.write_bytes(b"no shard" * 200)
    assert "cannot be read" in str([one.problem for one in members(str(path))])
    path.write_bytes(whole)
    monkeypatch.setattr(listing, "MAX_MEMBER", 4999)
    assert [one.problem for one in members(str(path))] == ["5,000 bytes are more than the 4,999 "
                                                           "that are read"] * 2  # fmt: skip


def test_braces() -> None:
    assert list(braces("a{08..11}b{x,y}")) == [f"a{n:02}b{c}" for n in range(8, 12) for c in "xy"]
    assert list(braces("{1..3}")) == ["1", "2", "3"]
    assert list(braces("plain{}")) == ["plain{}"]
    with pytest.raises(InputError, match="more than"):
        list(braces("{0..99999999999}"))
    with pytest.raises(InputError, match="more than"):
        list(braces("{0..9999}" * 5))


def test_patterns(tmp_path: Path) -> None:
    tree(tmp_path, "s-0.tar", "s-1.tar", "{x,y}.png")
    assert expanded([f"{tmp_path}/s-{{0..1}}.tar"]) == [f"{tmp_path}/s-{n}.tar" for n in (0, 1)]
    assert expanded([f"{tmp_path}/s-*.tar"]) == [f"{tmp_path}/s-{n}.tar" for n in (0, 1)]
    assert expanded([f"{tmp_path}/{{x,y}}.png"]) == [f"{tmp_path}/{{x,y}}.png"]
    for missing in ("s-{0..2}.tar", "t-*.tar"):
        with pytest.raises(InputError, match="does not exist"):
            expanded([f"{tmp_path}/{missing}"])


@pytest.mark.parametrize("null", [False, True])
def test_names_from_standard_input(null: bool) -> None:
    given = ["a.png", "b c.jpg", os.fsdecode(b"\xff.png")] + (["d\ne.png"] if null else [])
    end = "\0" if null else "\n"
    for last in ("", end):
        file = io.BytesIO(os.fsencode(end.join(given) + last))
        assert [one.name for one in listed(["-"], names=file, null=null)] == given
    with pytest.raises(InputError, match="longer than"):
        list(listed(["-"], names=io.BytesIO(b"x" * 1_000_000), null=null))


def test_counted(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png", "a/2.png", "b.png", "c.tar")
    images = ImageSource([str(tmp_path / "a"), str(tmp_path / "b.png")])
    images.start_counting()
    while images.total() is None:
        pass
    assert images.total() == 3
    assert images.has(3)
    assert not images.has(4)
    assert len(list(images)) == 3
    shard = ImageSource([str(tmp_path / "c.tar")])
    shard.start_counting()
    assert shard.total() is None

"""Files that are either whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import resnetkit
from resnetkit.errors import InputError
from resnetkit.files import atomic, check_target, write_text


def test_the_old_file_stands_until_the_new_one_takes_its_name(tmp_path: Path) -> None:
    path = tmp_path / "page"
    write_text(path, "old")
    before = path.stat().st_ino
    with atomic(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent
    assert path.read_text() == "new"
    assert path.stat().st_ino != before, "the file was written over instead of replaced"
    assert os.listdir(tmp_path) == ["page"]


def test_a_failing_body_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "page"
    write_text(path, "old")

    def interrupted() -> None:
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["page"]


def test_file_and_folder_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, real = [], os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write_text(tmp_path / "page", "text")
    assert synced == [(tmp_path / "page").stat().st_ino, tmp_path.stat().st_ino]


def test_a_place_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write .*there is no folder"):
        write_text(tmp_path / "none" / "page", "text")


def test_devices_pipes_and_folders_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, what in (("pipe", "a device or a pipe"), ("folder", "a folder")):
        with pytest.raises(InputError, match=what):
            write_text(tmp_path / name, "text")
    with pytest.raises(InputError, match="a device"):
        check_target(Path(os.devnull))
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(os.listdir(tmp_path)) == ["folder", "pipe"]


def test_an_address_is_no_place_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for write in (
        lambda: write_text("s3://key:secret@bucket/a.txt", "a"),
        lambda: resnetkit.train("digits", out="s3://key:secret@bucket/run", epochs=1),
    ):
        with pytest.raises(InputError, match=r"cannot write to an address \(s3://\.\.\.\)"):
            write()
    assert not list(tmp_path.iterdir())

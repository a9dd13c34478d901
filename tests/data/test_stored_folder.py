"""Class folders in object storage, which `resnetkit shards` packs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from object_storage import delete_object, make_bucket, put_object, s3_serving, use
from photographs import write_divided
from resnetkit.cli.main import main
from resnetkit.data import storage
from resnetkit.data.datasets.dataset import Sample
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.webdataset_writer import pack
from resnetkit.errors import InputError


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_serving() as address:
        yield address


@pytest.fixture
def bucket(server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    use(monkeypatch, server)
    name = f"folders-{abs(hash(request.node.name)) % 10**9}"
    make_bucket(server, name)
    return name


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_divided(tmp_path_factory.mktemp("photographs") / "data", train=6, held=2)


@pytest.fixture(scope="module")
def local(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local") / "packed"
    pack(open_dataset(data), folder, megabytes=0.02)
    return folder


def contents_of(samples: Sequence[Sample]) -> list[tuple[str, int, str]]:
    return [(e.name, e.label, e.digest()) for e in samples]


def test_class_folders_in_a_storage_become_the_same_shards(
    data: Path, local: Path, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = f"s3://{bucket}/pictures"
    for path in data.rglob("*.*"):
        storage.put(f"{where}/{path.relative_to(data).as_posix()}", path)
    for odd in ("train/coffee/.hidden.jpg", "train/@eaDir/a.jpg", "train/notes.txt"):
        storage.put(f"{where}/{odd}", b"x")
    storage.put(f"{where}/train/coffee/notes.txt", b"x")
    put_object(bucket, "pictures/", b"")
    put_object(bucket, "pictures/train/empty/", b"")
    for out in (tmp_path / "packed", f"s3://{bucket}/packed"):
        assert main(["shards", f"{where}/", str(out), "--megabytes", "0.02"]) == 0
    for path in local.iterdir():
        assert (tmp_path / "packed" / path.name).read_bytes() == path.read_bytes()
        assert storage.read(f"s3://{bucket}/packed/{path.name}") == path.read_bytes()
    capsys.readouterr()
    for words in (["train", where], ["shards", f"{where}/nothing", str(tmp_path / "b")]):
        assert main(words) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    with pytest.raises(InputError, match="class folders in a storage are written into shards"):
        open_dataset(where)


def test_class_folders_in_a_storage_are_read_as_local_ones(bucket: str, tmp_path: Path) -> None:
    """Whatever their depth; ambiguous ones are refused with the same words."""
    trees = (
        ["a/1.jpg", "b/2.JPG", "b/deep/3.png", "b/deep/4.txt", "0.jpg"],
        ["only/a/1.jpg", "only/b/1.jpg"],
        ["only/a/1.jpg"],
        ["x/a/1.jpg", "x/b/1.jpg", "y/a/1.jpg", "y/b/1.jpg"],
        ["train/a/1.jpg", "other/a/1.jpg"],
        ["train/a/1.jpg", "train/b/1.jpg", "VAL/b/1.jpg", "test/1.jpg"],
        ["Training/a/1.jpg", "train/b/1.jpg"],
        ["1.jpg", "2.jpg"],
        ["a/1.txt", "b/2.jpg"],
        ["train/1.jpg", "test/2.jpg"],
    )
    for number, names in enumerate(trees):
        root, where = tmp_path / f"tree{number}", f"s3://{bucket}/tree{number}"
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(name.encode())
            storage.put(f"{where}/{name}", name.encode())
        said = []
        for place in (str(root), where):
            try:
                found = open_dataset(place, least=1, loose=True)
            except InputError as error:
                said.append(str(error).partition(", or give ")[0].replace(place, "IT"))
            else:
                parts = {part: contents_of(samples) for part, samples in found.parts.items()}
                notes = [note.replace(place, "IT") for note in found.notes]
                said.append(repr((found.classes, contents_of(found.flat), parts, notes)))
        assert said[0] == said[1]


def test_a_picture_that_vanished_is_missing(data: Path, bucket: str, tmp_path: Path) -> None:
    where = f"s3://{bucket}/pictures"
    for path in data.rglob("*.*"):
        storage.put(f"{where}/{path.relative_to(data).as_posix()}", path)
    source = open_dataset(where, loose=True)
    gone = source.parts["train"][3].name
    delete_object(bucket, f"pictures/{gone}")
    packed = pack(source, tmp_path / "packed")
    assert packed.missing == (gone,)
    assert packed.images == len(source.examples) - 1


def test_a_full_disk_is_named(
    data: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"cannot be written in .*nowhere: .*TMPDIR"):
        pack(open_dataset(data), f"s3://{bucket}/packed")

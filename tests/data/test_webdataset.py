"""Tar shards: ours read by webdataset, webdataset's read by us, written on, cut, and fetched."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import PIL.Image
import pytest
import torch
import webdataset

from photographs import write_classes, write_divided
from resnetkit.cli.main import main
from resnetkit.data.datasets.dataset import Dataset
from resnetkit.data.datasets.digits import digits
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.packed_samples import Packed
from resnetkit.data.datasets.webdataset_writer import pack
from resnetkit.data.decoding.decode import pixels_of
from resnetkit.errors import InputError
from resnetkit.preprocess import Preprocess


def by_name(source: Dataset) -> dict[tuple[int, str], int]:
    """How often each image is there, by class and content."""
    found: dict[tuple[int, str], int] = {}
    for example in source.examples:
        key = (example.label, example.digest())
        found[key] = found.get(key, 0) + 1
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_divided(tmp_path_factory.mktemp("photographs") / "data", train=6, held=2)


def test_there_and_back(data: Path, tmp_path: Path) -> None:
    source = open_dataset(data)
    packed = pack(source, tmp_path / "out", megabytes=0.05)
    assert packed.images == len(source.examples) == 50
    assert packed.shards > 4
    again = open_dataset(tmp_path / "out")
    assert again.classes == source.classes
    assert {p: len(f) for p, f in again.parts.items()} == {
        "train": 30,
        "validation": 10,
        "test": 10,
    }
    assert by_name(again) == by_name(source)
    example = again.parts["train"][3]
    assert isinstance(example, Packed)
    preprocess = Preprocess(size=16)
    assert pixels_of(example.image, preprocess).shape == (16, 16, 3)
    assert len({e.name for e in again.examples}) == 50


# webdataset leaves closing its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_what_we_write(data: Path, tmp_path: Path) -> None:
    source = open_dataset(data / "train")
    pack(source, tmp_path / "out", megabytes=0.05)
    paths = sorted(str(path) for path in (tmp_path / "out").glob("*.tar"))
    theirs = [
        (int(sample["cls"]), next(v for k, v in sample.items() if k in ("jpg", "png")))
        for sample in webdataset.WebDataset(paths, shardshuffle=False)
    ]
    ours = [(e.label, e.image) for e in open_dataset(tmp_path / "out").examples]
    assert ours == theirs


def test_we_read_what_webdataset_writes(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    pictures = [draw.integers(0, 256, (9, 7, 3), dtype=np.uint8) for _ in range(6)]
    with webdataset.TarWriter(str(tmp_path / "train-000.tar")) as sink:
        for number, pixels in enumerate(pictures[:4]):
            label = {"cls": number % 2} if number else {"json": {"label": 0, "more": [1]}}
            sink.write({"__key__": f"deep/s{number:03}", "png": pixels, **label})
    with webdataset.TarWriter(str(tmp_path / "val-000.tar")) as sink:
        for number, pixels in enumerate(pictures[4:]):
            sink.write({"__key__": f"s{number:03}", "png": pixels, "cls": number})
    source = open_dataset(tmp_path)
    assert source.classes == ("0", "1")
    assert [e.label for e in source.parts["train"]] == [0, 1, 0, 1]
    read = [PIL.Image.open(io.BytesIO(e.image)) for e in source.examples]
    assert all(np.array_equal(a, b) for a, b in zip(read, pictures, strict=True))


def test_arrays_become_png_and_a_flat_source_stays_flat(tmp_path: Path) -> None:
    source = digits()
    small = Dataset(name="x", classes=source.classes, flat=source.parts["test"][:30], parts={})
    pack(small, tmp_path / "out")
    again = open_dataset(tmp_path / "out")
    assert len(again.flat) == 30
    pictures = sorted(np.asarray(PIL.Image.open(io.BytesIO(e.image))).tobytes() for e in again.flat)
    assert pictures == sorted(np.asarray(e.image).tobytes() for e in small.flat)


def test_interrupted_it_goes_on(data: Path, tmp_path: Path) -> None:
    source, out = open_dataset(data), tmp_path / "out"
    first = pack(source, out, megabytes=0.05)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    lost = sorted(out.glob("*.tar"))[1:4]
    for path in lost:
        path.unlink()
    (out / f".{lost[0].name}.abc").write_bytes(b"half")
    second = pack(source, out, megabytes=0.05)
    assert second.kept == first.shards - 3
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(InputError, match="other images, or of another size"):
        pack(source, out, megabytes=1)
    with pytest.raises(InputError, match="other images, or of another size"):
        pack(open_dataset(data / "train"), out, megabytes=0.05)
    with pytest.raises(InputError, match=r"not empty and has no shards\.json"):
        pack(source, data)


def test_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["shards", str(data), str(tmp_path / "out"), "--megabytes", "1"]
    assert main([*words, "--format", "json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["images"], figures["shards"], figures["kept"]) == (50, 3, 0)
    assert main(words) == 0
    assert "50 images in 3 shards, 3 of them already existed" in capsys.readouterr().out
    assert main([*words[:-1], "0"]) == 2
    rows = "path,label\ntrain/brick/01.jpg,a\ntrain/brick/nothing.jpg,b\n"
    (data / "t.csv").write_text(rows)
    assert main(["shards", str(data / "t.csv"), str(tmp_path / "t")]) == 1
    assert "skipped train/brick/nothing.jpg" in capsys.readouterr().err


def test_shards_that_are_refused(tmp_path: Path) -> None:
    def shard(*members: tuple[str, bytes], name: str = "a.tar") -> Path:
        with tarfile.open(tmp_path / name, "w") as tar:
            for member, content in members:
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        return tmp_path / name

    good = [(f"{n}.{kind}", b"1") for n in range(4) for kind in ("jpg", "cls")]
    cases = [
        ([], "has no files"),
        ([("1.jpg", b"")], r"no label; add 1\.cls"),
        ([("1.jpg", b""), ("1.cls", b"one")], "no label"),
        ([("1.jpg", b""), ("1.cls", b"-1")], "no label"),
        ([("1.jpg", b""), ("1.json", b'{"label": "x"}')], "no label"),
        ([("1.cls", b"0")], "has 0 images"),
        ([("1.jpg", b""), ("1.png", b""), ("1.cls", b"0")], "has 2 images"),
        ([("1.jpg", b""), ("1.cls", b"0")], "has one class"),
    ]
    for members, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            open_dataset(shard(*members))
        assert "\n" not in str(caught.value)
    path = shard(*good)
    assert len(open_dataset(path).flat) == 4
    whole = path.read_bytes()
    for size in (100, 700, 1024, 4 * 1024, 4 * 1024 + 100, 8 * 1024 - 300, 8 * 1024):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"ends in the middle|is no tar file|has no files"):
            open_dataset(path)
    path.write_bytes(whole)
    (tmp_path / "classes.txt").write_text("one\n")
    with pytest.raises(InputError, match=r"has the label 1, and classes\.txt has 1 names"):
        open_dataset(path)
    with pytest.raises(InputError, match=r"a-01\.tar does not exist"):
        open_dataset(f"{tmp_path}/a-{{01..02}}.tar")
    with pytest.raises(InputError, match="lower number first"):
        open_dataset(f"{tmp_path}/a-{{2..1}}.tar")


def test_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / "cache"))
    data = write_classes(tmp_path / "data", 3, classes=("brick", "coffee"))
    pack(open_dataset(data), tmp_path / "out", megabytes=0.02)
    memory = fsspec.filesystem("memory")
    paths = sorted((tmp_path / "out").iterdir())
    for path in paths:
        memory.pipe(f"/bucket/{path.name}", path.read_bytes())
    last = max(int(p.stem[-6:]) for p in paths if p.suffix == ".tar")
    assert last > 0
    address = f"memory://bucket/data-{{000000..{last:06}}}.tar"
    source = open_dataset(address)
    assert source.classes == ("brick", "coffee")
    assert by_name(source) == by_name(open_dataset(data))
    memory.rm("/bucket/index.json")
    unverified = open_dataset(address)
    assert unverified.notes == (
        f"{address} has no index.json, so the shards' checksums are not verified",
    )
    assert by_name(unverified) == by_name(source)
    with pytest.raises(InputError, match=r"memory://bucket/other-0\.tar does not exist"):
        open_dataset("memory://bucket/other-{0..1}.tar")
    with pytest.raises(InputError, match="Protocol not known: nosuchthing"):
        open_dataset("nosuchthing://bucket/other.tar")


def test_a_packed_image_is_digested_like_its_file(data: Path, tmp_path: Path) -> None:
    pack(open_dataset(data), tmp_path / "out")
    packed = open_dataset(tmp_path / "out").examples[0]
    assert packed.brief() == f"size:{len(packed.image)}"
    with pytest.raises(AttributeError):
        packed.nothing  # noqa: B018
    assert isinstance(torch.frombuffer(bytearray(packed.image), dtype=torch.uint8), torch.Tensor)

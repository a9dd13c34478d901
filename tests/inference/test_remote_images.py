"""Prediction on images and shards of an S3 server, with and without faults."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import resnetkit
from object_storage import SECRET, Faults, faulty, make_bucket, s3_serving, use
from photographs import write_classes
from resnetkit.cli.main import main
from resnetkit.data import storage
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.webdataset_writer import pack
from resnetkit.data.listing import ImageSource, listed


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_serving() as address:
        yield address


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("bundle") / "net.safetensors"
    module = resnetkit.build("resnet20", num_classes=3).eval()
    facts = resnetkit.Preprocess(size=32)
    names = ("rose", "tulip", "lily")
    resnetkit.Bundle.from_module(module, preprocess=facts, classes=names).save(path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures") / "all"
    write_classes(folder, 8, classes=("brick", "coffee"))
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def packed(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "shards"
    pack(open_dataset(pictures), folder, megabytes=0.02)
    return folder


@pytest.fixture
def bucket(
    server: str,
    pictures: Path,
    packed: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    use(monkeypatch, server)
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / "cache"))
    name = f"predict-{abs(hash(request.node.name)) % 10**9}"
    make_bucket(server, name)
    for folder, at in ((pictures, "pictures"), (packed, "shards")):
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            storage.put(f"s3://{name}/{at}/{path.relative_to(folder)}", path)
    return name


def rows(
    bundle: Path, paths: list[str], where: Path, code: int = 0
) -> list[tuple[str, list[tuple[str, float]], str]]:
    words = [
        "predict",
        str(bundle),
        *paths,
        "--topk",
        "3",
        "--out",
        str(where),
        "--format",
        "jsonl",
    ]
    assert main(words) == code
    found = map(json.loads, where.read_text().splitlines())
    return [
        (
            row["image"],
            [(one["label"], one["probability"]) for one in row["predictions"]],
            row.get("problem", ""),
        )
        for row in found
    ]


def test_the_same_as_local(
    bundle: Path, pictures: Path, packed: Path, bucket: str, tmp_path: Path
) -> None:
    cases = [
        ([str(pictures)], [f"s3://{bucket}/pictures"], str(pictures), f"s3://{bucket}/pictures"),
        ([str(packed)], [f"s3://{bucket}/shards"], str(packed), f"s3://{bucket}/shards"),
        (
            [str(path) for path in sorted(packed.glob("*.tar"))],
            [f"s3://{bucket}/shards/*.tar"],
            str(packed),
            f"s3://{bucket}/shards",
        ),
        (
            [str(packed / f"data-00000{number}.tar") for number in (0, 1)],
            [f"s3://{bucket}/shards/data-00000{{0..1}}.tar"],
            str(packed),
            f"s3://{bucket}/shards",
        ),
    ]
    for number, (here, there, local, remote) in enumerate(cases):
        expected = rows(bundle, here, tmp_path / f"local{number}.jsonl")
        found = rows(bundle, there, tmp_path / f"remote{number}.jsonl")
        assert len(found) > 2
        assert [(name.replace(remote, local), *rest) for name, *rest in found] == [
            (name, *rest) for name, *rest in expected
        ]
    source = ImageSource([f"s3://{bucket}/pictures"])
    assert len(list(source)) == 16
    assert source.endings == {".txt": 1}


def test_faults_leave_no_trace(
    bundle: Path, packed: Path, server: str, bucket: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    paths = [f"s3://{bucket}/pictures", f"s3://{bucket}/shards/*.tar", f"s3://{bucket}/shards"]
    expected = rows(bundle, paths, tmp_path / "good.jsonl")
    monkeypatch.setattr("resnetkit.data.storage_access._systems", {})
    monkeypatch.setattr(storage, "BLOCK", 1 << 14)
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / "other"))
    wrong = Faults()
    wrong.next_faults = ["", "", *["half", "", "503", "", "reset", "", "short", ""] * 5]
    with faulty(server, wrong) as address:
        use(monkeypatch, address)
        assert rows(bundle, paths, tmp_path / "bad.jsonl") == expected
    assert len(wrong.used) == 20


def test_what_stays_unreadable_is_a_row(
    bundle: Path, server: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnetkit.data.storage_access._systems", {})
    monkeypatch.setenv("RESNETKIT_STORAGE_TIMEOUT", "1")
    wrong = Faults()
    with faulty(server, wrong) as address:
        use(monkeypatch, address)
        wrong.on, wrong.always = "brick/03", "503"
        found = rows(bundle, [f"s3://{bucket}/pictures"], tmp_path / "a.jsonl", 1)
        assert [name for name, _, problem in found if problem] == [
            f"s3://{bucket}/pictures/brick/03.jpg"
        ]
        assert "cannot be read" in next(problem for _, _, problem in found if problem)
        wrong.on = "data-000001.tar"
        found = rows(bundle, [f"s3://{bucket}/shards/*.tar"], tmp_path / "b.jsonl", 1)
        assert [name for name, _, problem in found if problem] == [
            f"s3://{bucket}/shards/data-000001.tar"
        ]
        assert all(SECRET not in str(row) for row in found)
    use(monkeypatch, server)
    monkeypatch.setattr("resnetkit.data.storage_access._systems", {})
    # A damaged shard of an index is found by its checksum, before any of its images is used.
    size = next(storage.files(f"s3://{bucket}/shards/data-000001.tar")).size
    storage.put(f"s3://{bucket}/shards/data-000001.tar", b"x" * size)
    found = rows(bundle, [f"s3://{bucket}/shards"], tmp_path / "c.jsonl", 1)
    problems = [problem for _, _, problem in found if problem]
    assert len(problems) == 1
    assert "its index has" in problems[0]


def test_a_folder_with_an_index_of_somebody_else(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "copy")
    (tmp_path / "copy" / "index.json").write_text('{"shards": []}')
    assert len(list(ImageSource([str(tmp_path / "copy")]))) == 16


def test_names_on_standard_input_may_be_addresses(bucket: str, tmp_path: Path) -> None:
    names = tmp_path / "names"
    names.write_text(f"s3://{bucket}/pictures/brick/01.jpg\ns3://{bucket}/nothing.jpg\n")
    with names.open("rb") as file:
        good, bad = (entry.loaded() for entry in listed(["-"], names=file))
    assert isinstance(good.image, bytes)
    assert bad.problem is not None
    assert "does not exist" in bad.problem


def test_what_is_not_there_is_one_line(
    bundle: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for address, message in {
        f"s3://{bucket}/nothing": "does not exist",
        f"s3://{bucket}/shards/*.zip": "no file matches",
        "s3://no-such-bucket-to-predict/a.jpg": "there is no such bucket",
        "http://127.0.0.1:9/a.jpg": "cannot be read",
    }.items():
        assert main(["predict", str(bundle), address]) == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert "\n" not in error


def test_a_login_is_not_shown(server: str) -> None:
    with pytest.raises(ValueError, match=r"does not exist|cannot be") as caught:
        list(ImageSource([f"{server.replace('://', f'://me:{SECRET}@')}/nothing.jpg?a={SECRET}"]))
    assert SECRET not in str(caught.value)

"""Shards in object storage: written in parallel and on after a kill, indexed, verified, cached."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from object_storage import (
    SECRET,
    Faults,
    faulty,
    free_port,
    make_bucket,
    s3_serving,
    use,
)
from photographs import write_divided
from resnetkit.cli.main import main
from resnetkit.data import storage
from resnetkit.data.datasets.dataset import Dataset, joined, labels_of
from resnetkit.data.datasets.digits import digits
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.packed_samples import PackedSamples, Shard
from resnetkit.data.datasets.shard_cache import RemoteShard
from resnetkit.data.datasets.shard_index import RECORD, Table, decoded
from resnetkit.data.datasets.webdataset_writer import pack
from resnetkit.errors import InputError


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_serving() as address:
        yield address


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_divided(tmp_path_factory.mktemp("photographs") / "data", train=6, held=2)


@pytest.fixture(scope="module")
def local(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local") / "packed"
    pack(open_dataset(data), folder, megabytes=0.02)
    return folder


@pytest.fixture
def bucket(
    server: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    use(monkeypatch, server)
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / "cache"))
    name = f"shards-{abs(hash(request.node.name)) % 10**9}"
    make_bucket(server, name)
    return name


def contents(source: Dataset) -> list[tuple[str, int, str]]:
    return [(e.name, e.label, e.digest()) for e in source.examples]


def test_the_same_files_as_in_a_folder(data: Path, local: Path, bucket: str) -> None:
    where = f"s3://{bucket}/packed"
    packed = pack(open_dataset(data), where, megabytes=0.02)
    assert packed.folder == where
    names = sorted(path.name for path in local.iterdir())
    assert [one.name for one in storage.files(where)] == names
    for name in names:
        assert storage.read(f"{where}/{name}") == (local / name).read_bytes(), name
    assert contents(open_dataset(where)) == contents(open_dataset(local))
    assert open_dataset(where).classes == open_dataset(data).classes
    again = pack(open_dataset(data), where, megabytes=0.02)
    assert (again.kept, again.shards, again.images) == (packed.shards, packed.shards, 50)
    with pytest.raises(InputError, match="other images, or of another size"):
        pack(open_dataset(data), where, megabytes=1)


def test_the_index(local: Path) -> None:
    index = json.loads((local / "index.json").read_text())
    assert index["images"] == sum(index["class_images"]) == 50
    assert index["classes"] == list(open_dataset(local).classes)
    assert index["bytes"] == sum(path.stat().st_size for path in local.glob("*.tar"))
    assert [shard["name"] for shard in index["shards"]] == sorted(
        p.name for p in local.glob("*.tar")
    )
    for shard in index["shards"]:
        content = (local / shard["name"]).read_bytes()
        assert (shard["bytes"], shard["sha256"]) == (
            len(content),
            hashlib.sha256(content).hexdigest(),
        )
        table = decoded((local / shard["name"]).with_suffix(".table").read_bytes(), "table")
        assert len(table.records) == shard["images"]


def test_what_does_not_match_the_index_is_refused(local: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for path in local.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        return folder

    first = sorted(path.name for path in local.glob("*.tar"))[0]
    table = Path(first).with_suffix(".table").name
    cut = copy("cut")
    os.truncate(cut / first, 1024)
    with pytest.raises(InputError, match=r"has 1,024 bytes, and index\.json has"):
        open_dataset(cut)
    lost = copy("lost")
    (lost / first).unlink()
    with pytest.raises(InputError, match="is missing, and"):
        open_dataset(lost)
    more = copy("more")
    (more / "zzz.tar").write_bytes(b"")
    with pytest.raises(InputError, match=r"zzz\.tar is not in index\.json"):
        open_dataset(more)
    unfinished = copy("unfinished")
    (unfinished / "index.json").unlink()
    with pytest.raises(InputError, match="not finished; write them again"):
        open_dataset(unfinished)
    changed = copy("changed")
    content = bytearray((changed / table).read_bytes())
    content[-3] ^= 1
    (changed / table).write_bytes(content)
    with pytest.raises(InputError, match="not the one of its index"):
        open_dataset(changed)
    broken = copy("broken")
    (broken / "index.json").write_bytes((broken / "index.json").read_bytes()[:-9])
    with pytest.raises(InputError, match=r"index\.json is invalid"):
        open_dataset(broken)
    # Of somebody else, it says nothing about the shards.
    foreign = copy("foreign")
    (foreign / "index.json").write_text('{"format": "another"}')
    (foreign / "shards.json").unlink()
    assert sorted(e[1:] for e in contents(open_dataset(foreign))) == sorted(
        e[1:] for e in contents(open_dataset(local))
    )


@given(st.binary(max_size=200))
def test_any_bytes_as_a_table(content: bytes) -> None:
    with pytest.raises(InputError, match="is damaged"):
        decoded(content, "it")
    good = Table(size=99, sha256="a", suffixes=(".jpg",), records=np.zeros(2, RECORD)).encoded()
    for end in (b"", b"12345", b"\xff" * RECORD.itemsize):
        try:
            assert len(decoded(good + end, "it").records) == 2
        except InputError as error:
            assert "\n" not in str(error)


def test_a_killed_command_continues(
    data: Path, local: Path, server: str, bucket: str, tmp_path: Path
) -> None:
    where = f"s3://{bucket}/killed"
    words = ["shards", str(data), where, "--megabytes", "0.02", "--format", "json"]
    wrong = Faults()
    wrong.methods, wrong.on = ("PUT",), "train-00000"
    wrong.next_faults, wrong.always = [""] * 7, "silent"
    with faulty(server, wrong) as address:
        command = subprocess.Popen(
            [sys.executable, "-m", "resnetkit", *words],
            env={**os.environ, "AWS_ENDPOINT_URL": address},
            stdout=subprocess.DEVNULL,
        )
        while not wrong.used:
            time.sleep(0.02)
        command.send_signal(signal.SIGKILL)
        command.wait()
    before = {one.name for one in storage.files(where)}
    assert "index.json" not in before
    with pytest.raises(InputError, match="not finished"):
        open_dataset(where)
    done = subprocess.run(
        [sys.executable, "-m", "resnetkit", *words], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["kept"] == len([n for n in before if n.endswith(".tar")]) > 0
    for path in local.iterdir():
        assert storage.read(f"{where}/{path.name}") == path.read_bytes()


def test_written_and_read_through_faults(
    data: Path, local: Path, server: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnetkit.data.storage_access._systems", {})
    wrong = Faults()
    wrong.methods = ("GET", "PUT")
    with faulty(server, wrong) as address:
        use(monkeypatch, address)
        storage.put(f"s3://{bucket}/first", b"1")
        wrong.next_faults = ["", "503", "", "reset", "", "", "half", "short"] * 3
        pack(open_dataset(data), f"s3://{bucket}/packed", megabytes=0.1)
        wrong.next_faults = ["half", "", "503", "", "reset", "", "short"]
        source = open_dataset(f"s3://{bucket}/packed")
        wrong.on, wrong.next_faults = ".tar", ["wrong", "half", "503"]
        found = sorted(e[1:] for e in contents(source))
        assert found == sorted(e[1:] for e in contents(open_dataset(local)))
    assert {"503", "reset", "half", "short", "wrong"} <= set(wrong.used)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("s3://no-such-bucket-for-shards/a", "there is no such bucket"),
        ("s3://{refused}/a", "refuses the credentials"),
        ("http://127.0.0.1:{port}/a", "cannot be"),
        ("oci://bucket/a", "requires ocifs"),
    ],
)
def test_where_nothing_can_be_written(
    where: str,
    message: str,
    data: Path,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused(address: str) -> None:
        for words in (
            ["shards", str(data), address],
            ["train", address],
            ["predict", "x", address],
        ):
            assert main(words) == 2
            error = capsys.readouterr().err
            if words[0] != "predict":
                assert message in error
            assert len(error.strip().splitlines()) == 1
            assert SECRET not in error

    if "{refused}" not in where:
        refused(where.format(port=free_port()))
        return
    with s3_serving(INITIAL_NO_AUTH_ACTION_COUNT="0") as strict:
        use(monkeypatch, strict)
        refused(where.format(refused="refused"))


def test_shards_by_pattern_and_without_an_index(local: Path, bucket: str) -> None:
    for path in local.iterdir():
        storage.put(f"s3://{bucket}/a/{path.name}", path)
        if path.suffix in (".tar", ".txt"):
            storage.put(f"s3://{bucket}/b/{path.name}", path)
    some = open_dataset(f"s3://{bucket}/a/train-{{000000..000002}}.tar")
    assert (
        contents(some)
        == [e for e in contents(open_dataset(local)) if e[0] < "train-000003"][: len(some.examples)]
    )
    with pytest.raises(InputError, match=r"train-000099\.tar is not in index\.json"):
        open_dataset(f"s3://{bucket}/a/train-000099.tar")
    unverified = open_dataset(f"s3://{bucket}/b")
    assert "checksums are not verified" in unverified.notes[0]
    by_content = sorted(e[1:] for e in contents(unverified))
    assert by_content == sorted(e[1:] for e in contents(open_dataset(local)))
    storage.put(f"s3://{bucket}/c/a.txt", b"")
    with pytest.raises(InputError, match=r"has no index\.json and no \.tar shards"):
        open_dataset(f"s3://{bucket}/c")


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=12),
    st.integers(1, 400),
    st.integers(0, 2**32),
    st.floats(0.1, 1),
)
def test_groups_have_every_image_once(
    counts: list[int], window: int, seed: int, share: float
) -> None:
    files = [
        Shard(
            name=f"train-{n}.tar",
            file=RemoteShard(f"s3://b/{n}", 10 * count),
            size=10 * count,
            images=count,
            sha256=f"{n:064x}",
            suffixes=(".jpg",),
        )
        for n, count in enumerate(counts)
    ]
    tables = {}
    for n, count in enumerate(counts):
        records = np.zeros(count, RECORD)
        records["number"], records["label"] = np.arange(count), np.arange(count) % 7
        tables[n] = Table(size=10 * count, sha256="", suffixes=(".jpg",), records=records)
    whole = PackedSamples.of(files, tables, window)
    draw = np.random.default_rng(seed)
    mask = draw.random(len(whole)) < share
    mask[0] = True
    some, others = whole.take(mask), whole.take(~mask)
    groups = some.groups(draw.permutation(some.used()).tolist())
    numbers = np.concatenate(groups)
    assert sorted(numbers.tolist()) == list(range(len(some))), "once each"
    every = []
    for group in groups:
        held = some.remote(group)
        assert {f"train-{one.name}.tar" for one in held} == {
            some[int(n)].name.partition("/")[0] for n in group
        }
        assert len(held) == 1 or sum(one.size for one in held) <= window
        every += [one.address for one in held]
    assert len(every) == len(set(every)) == some.used(), "a shard is in one group"
    assert some.streams == (sum(10 * counts[n] for n in set(some.rows["shard"])) > window)
    assert np.array_equal(whole.among(some.membership()), mask)
    if len(others):
        assert np.array_equal(whole.among(others.membership()), ~mask)
    assert whole.take(np.zeros(len(whole), bool)).membership() == {}
    back = joined((some, others))
    assert isinstance(back, PackedSamples)
    assert sorted(e.name for e in back) == sorted(e.name for e in whole)
    assert labels_of(some).tolist() == [e.label for e in some]


def test_a_million_images_take_25_bytes_each() -> None:
    table = Table(size=1 << 40, sha256="", suffixes=(".jpg",), records=np.zeros(10**6, RECORD))
    shard = Shard(
        name="a.tar", file=Path("a.tar"), size=1, images=10**6, sha256="", suffixes=(".jpg",)
    )
    assert PackedSamples.of([shard], {0: table}, 1).rows.nbytes == 25 * 10**6


def test_arrays_are_packed_for_a_storage_too(bucket: str) -> None:
    source = digits()
    small = Dataset(name="x", classes=source.classes, flat=source.parts["test"][:30], parts={})
    pack(small, f"s3://{bucket}/digits")
    assert len(open_dataset(f"s3://{bucket}/digits").flat) == 30

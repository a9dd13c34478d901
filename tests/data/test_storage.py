"""Object storage: moto's S3 server, directly and through a proxy that breaks what it passes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from object_storage import (
    SECRET,
    Faults,
    faulty,
    free_port,
    make_bucket,
    put_object,
    s3_serving,
    use,
)
from resnetkit.data import storage
from resnetkit.data.storage_access import NoSuchFileError, StorageError, shown_address

CONTENT = bytes(range(256)) * 4000


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_serving() as address:
        yield address


@pytest.fixture
def bucket(server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of the test's own, as a server is remembered by its bucket."""
    use(monkeypatch, server)
    name = request.node.originalname.replace("_", "-") + f"-{abs(hash(request.node.name)) % 10**6}"
    make_bucket(server, name)
    return name


def test_written_listed_and_read(bucket: str, tmp_path: Path) -> None:
    where = f"s3://{bucket}/folder"
    storage.put(f"{where}/b.txt", b"small")
    storage.put(f"{where}/deep/a.bin", b"")
    (tmp_path / "file").write_bytes(CONTENT)
    storage.put(f"{where}/a.bin", tmp_path / "file")
    found = [(one.name, one.size) for one in storage.files(where)]
    assert found == [("a.bin", len(CONTENT)), ("b.txt", 5), ("deep/a.bin", 0)]
    assert [one.address for one in storage.files(f"{where}/*.bin")] == [f"{where}/a.bin"]
    assert [one.name for one in storage.files(f"{where}/b.txt")] == ["b.txt"]
    assert next(one.name for one in storage.files(f"s3://{bucket}")) == "folder/a.bin"
    assert storage.exists(f"{where}/b.txt")
    assert not storage.exists(f"{where}/c.txt")
    assert storage.read(f"{where}/a.bin") == CONTENT
    assert storage.read(f"{where}/b.txt", size=5) == b"small"
    assert storage.read(f"{where}/deep/a.bin") == b""
    with storage.open_file(f"{where}/a.bin") as file:
        file.seek(300)
        assert file.read(10) == CONTENT[300:310]
        assert file.read() == CONTENT[310:]
    size, digest = storage.fetch(f"{where}/a.bin", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    storage.fetch(f"{where}/a.bin", tmp_path / "again", size=size, sha256=digest)
    with pytest.raises(StorageError, match="its index has"):
        storage.fetch(f"{where}/a.bin", tmp_path / "other", size=size, sha256="0" * 64)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "copy", "file"]


@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_other_protocols(protocol: str, tmp_path: Path) -> None:
    where = f"{protocol}://{tmp_path}/new/folder"
    storage.put(f"{where}/a", b"1")
    storage.put(f"{where}/a", b"2")
    assert storage.read(f"{where}/a") == b"2"
    assert [one.name for one in storage.files(where)] == ["a"], "no temporary name is left"
    with pytest.raises(NoSuchFileError):
        storage.read(f"{where}/b")


@pytest.mark.parametrize(
    "faults",
    [
        ["503", "500"],
        ["429"],
        ["reset", "reset"],
        ["half", "half"],
        ["short", "short", "503", "half"],
        ["slow"],
        ["silent"],
    ],
    ids="-".join,
)
def test_a_storage_with_faults(
    faults: list[str], server: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put(f"s3://{bucket}/a.bin", CONTENT)
    digest = storage.fetch(f"s3://{bucket}/a.bin", tmp_path / "good")[1]
    # Another bucket name would be another server: the file system of this one is made again.
    storage_of(monkeypatch)
    wrong = Faults()
    with faulty(server, wrong) as address:
        use(monkeypatch, address)
        if "silent" in faults:
            monkeypatch.setenv("RESNETKIT_STORAGE_TIMEOUT", "4")
        wrong.on, wrong.next_faults = "a.bin", list(faults)
        storage.fetch(f"s3://{bucket}/a.bin", tmp_path / "copy", sha256=digest)
        assert wrong.used == faults
        assert (tmp_path / "copy").read_bytes() == CONTENT
        wrong.used.clear()
        wrong.methods, wrong.on = ("PUT",), "b.bin"
        wrong.next_faults = [one for one in faults if one not in ("silent", "slow", "short")]
        storage.put(f"s3://{bucket}/b.bin", CONTENT)
        assert storage.read(f"s3://{bucket}/b.bin") == CONTENT


def storage_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the file systems, which have their server's address."""
    monkeypatch.setattr("resnetkit.data.storage_access._systems", {})


def test_what_broke_goes_on_where_it_was(
    server: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put(f"s3://{bucket}/a.bin", CONTENT)
    storage_of(monkeypatch)
    block = len(CONTENT) // 4
    monkeypatch.setattr(storage, "BLOCK", block)
    wrong = Faults()
    with faulty(server, wrong) as address:
        use(monkeypatch, address)
        wrong.on, wrong.next_faults = "a.bin", ["", "", "half"]
        assert storage.read(f"s3://{bucket}/a.bin") == CONTENT
    starts = [ranged.partition("-")[0] for method, _, ranged in wrong.requests if method == "GET"]
    half = 2 * block + block // 2
    numbers = [0, block, 2 * block, 2 * block, half, 3 * block]
    assert starts == [f"bytes={number}" for number in numbers]


def test_wrong_bytes_are_fetched_again_and_then_refused(
    server: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put(f"s3://{bucket}/a.bin", CONTENT)
    digest = storage.fetch(f"s3://{bucket}/a.bin", tmp_path / "good")[1]
    storage_of(monkeypatch)
    wrong = Faults()
    with faulty(server, wrong) as address:
        use(monkeypatch, address)
        wrong.on, wrong.next_faults = "a.bin", ["wrong"]
        storage.fetch(f"s3://{bucket}/a.bin", tmp_path / "copy", sha256=digest)
        assert (tmp_path / "copy").read_bytes() == CONTENT
        wrong.always = "wrong"
        with pytest.raises(StorageError, match="its index has"):
            storage.fetch(f"s3://{bucket}/a.bin", tmp_path / "other", sha256=digest)
        assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("fault", ["503", "reset", "silent"])
def test_a_storage_that_stays_bad_is_given_up(
    fault: str, server: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage_of(monkeypatch)
    monkeypatch.setenv("RESNETKIT_STORAGE_TIMEOUT", "2")
    wrong = Faults()
    with faulty(server, wrong) as address:
        use(monkeypatch, address)
        storage.put(f"s3://{bucket}/a.bin", b"1")
        wrong.always = fault
        began = time.monotonic()
        with pytest.raises(StorageError, match=f"s3://{bucket}/a.bin cannot be") as caught:
            storage.read(f"s3://{bucket}/a.bin", size=1)
        assert time.monotonic() - began < 8
        assert "\n" not in str(caught.value)


def test_any_names(bucket: str) -> None:
    where = f"s3://{bucket}/a folder #1"
    names = ["50%20.jpg", "BIG.JPG", "[1].jpg", "a b.jpg", "p+q.jpg", "x#y.jpg", "x?y.jpg", "ü.jpg"]
    for number, name in enumerate(names):
        storage.put(f"{where}/{name}", bytes([number]))
    put_object(bucket, "a folder #1/", b"")
    put_object(bucket, "a folder #1/below/", b"")
    found = list(storage.files(where))
    assert [one.name for one in found] == names
    for number, one in enumerate(found):
        assert storage.read(one.address) == bytes([number])
        assert [again.name for again in storage.files(one.address)] == [one.name]
        assert shown_address(one.address) == one.address
    assert [one.name for one in storage.files(f"{where}/x?y.*")] == ["x#y.jpg", "x?y.jpg"]
    put_object(bucket, "a folder #1//hidden.jpg", b"1")
    with pytest.warns(UserWarning, match="#1// is passed over"):
        assert [one.name for one in storage.files(where)] == names


def test_addresses_in_messages() -> None:
    for address, shown in {
        f"s3://key:{SECRET}@bucket/a?b#c": "s3://bucket/a?b#c",
        f"https://key:{SECRET}@host/a?{SECRET}#b": "https://host/a",
        "abfs://container@account.dfs.core.windows.net/a": (
            "abfs://container@account.dfs.core.windows.net/a"
        ),
        f"az://key:{SECRET}@container/a": "az://container/a",
    }.items():
        assert shown_address(address) == shown


def test_refusals_are_one_line_without_secrets(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    addresses = {
        "s3://no-such-bucket-here/a": "there is no such bucket",
        f"s3://{bucket}/nothing": "does not exist",
        "s3://No_Such Bucket/a": "Invalid bucket name",
        "oci://bucket/a": r"requires ocifs, which is not installed; pip install ocifs",
        "nosuch://bucket/a": "Protocol not known",
        "s3://": "names no bucket",
        "s3:///a": "names no bucket",
        f"http://user:{SECRET}@127.0.0.1:{port}/a?token={SECRET}": "cannot be read",
    }
    for address, message in addresses.items():
        began = time.monotonic()
        with pytest.raises(StorageError, match=message) as caught:
            storage.read(address)
        assert time.monotonic() - began < 5
        assert "\n" not in str(caught.value)
        assert SECRET not in str(caught.value)
        assert address.startswith("http") or shown_address(address) == address
    with pytest.raises(NoSuchFileError, match="there is no such bucket"):
        storage.put("s3://no-such-bucket-here/a", b"1")
    monkeypatch.setenv("RESNETKIT_STORAGE_TIMEOUT", "soon")
    with pytest.raises(ValueError, match="RESNETKIT_STORAGE_TIMEOUT is 'soon'"):
        storage.read(f"s3://{bucket}/nothing")


def test_credentials_and_servers_that_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_serving(INITIAL_NO_AUTH_ACTION_COUNT="0") as strict:
        use(monkeypatch, strict)
        for call in (
            lambda: storage.put("s3://strict/a", b"1"),
            lambda: storage.read("s3://strict/a"),
            lambda: list(storage.files("s3://strict")),
        ):
            with pytest.raises(StorageError, match="refuses the credentials") as caught:
                call()
            assert SECRET not in str(caught.value)
    use(monkeypatch, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StorageError, match="Could not connect"):
        storage.put("s3://nobody/a", b"1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nothing")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nothing")
    with pytest.raises(StorageError, match="there are no credentials"):
        storage.put("s3://anonymous/a", b"1")

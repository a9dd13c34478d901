"""The cache of shards: limited, verified, shared by processes, and what happens to its folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from object_storage import Faults, faulty, make_bucket, s3_serving, use
from photographs import write_divided
from resnetkit.data import storage
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.packed_samples import Packed
from resnetkit.data.datasets.shard_cache import RemoteShard, ShardCache, cached_shards
from resnetkit.data.datasets.webdataset_writer import pack
from resnetkit.data.storage_access import StorageError
from resnetkit.errors import InputError


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_serving() as address:
        yield address


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = write_divided(tmp_path_factory.mktemp("photographs") / "data", train=6, held=2)
    folder = tmp_path_factory.mktemp("local") / "packed"
    pack(open_dataset(data), folder, megabytes=0.02)
    return folder


@pytest.fixture
def bucket(
    server: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    use(monkeypatch, server)
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / "cache"))
    name = f"cache-{abs(hash(request.node.name)) % 10**9}"
    make_bucket(server, name)
    return name


def test_the_cache_is_limited_and_verified(
    local: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in local.iterdir():
        storage.put(f"s3://{bucket}/a/{path.name}", path)
    sizes = [path.stat().st_size for path in local.glob("*.tar")]
    limit = 3 * max(sizes)
    assert sum(sizes) > 2 * limit
    monkeypatch.setenv("RESNETKIT_SHARD_CACHE", str(1.9 * max(sizes) / 1e9))
    with pytest.raises(InputError, match="needs room for two"):
        open_dataset(f"s3://{bucket}/a")
    monkeypatch.setenv("RESNETKIT_SHARD_CACHE", str(limit / 1e9))
    source = open_dataset(f"s3://{bucket}/a")
    most = 0
    for example in source.examples:
        example.digest()
        there = (tmp_path / "cache" / "shards").iterdir()
        most = max(most, sum(path.stat().st_size for path in there))
    assert max(sizes) < most <= limit
    assert cached_shards().limit == limit
    victim = sorted(local.glob("train-*.tar"))[0]
    content = bytearray(victim.read_bytes())
    content[600] ^= 1
    storage.put(f"s3://{bucket}/a/{victim.name}", bytes(content))
    changed = RemoteShard(f"s3://{bucket}/a/{victim.name}", len(content), "0" * 64)
    with pytest.raises(StorageError, match="its index has"):
        ShardCache(tmp_path / "another", limit).path(changed)
    for words in ("0", "much"):
        monkeypatch.setenv("RESNETKIT_SHARD_CACHE", words)
        with pytest.raises(InputError, match="RESNETKIT_SHARD_CACHE is"):
            open_dataset(f"s3://{bucket}/a")


def test_many_fetches_at_once_wait_for_room(local: Path, bucket: str, tmp_path: Path) -> None:
    shards = []
    for path in sorted(local.glob("*.tar"))[:6]:
        storage.put(f"s3://{bucket}/a/{path.name}", path)
        shards.append(RemoteShard(f"s3://{bucket}/a/{path.name}", path.stat().st_size))
    assert len(shards) == 6
    cache = ShardCache(tmp_path / "small", round(2.5 * max(shard.size for shard in shards)))
    start = threading.Barrier(len(shards))

    def fetch(shard: RemoteShard) -> Path:
        start.wait()
        return cache.path(shard)

    with ThreadPoolExecutor(len(shards)) as pool:
        assert all(pool.map(fetch, shards))
    assert sum(path.stat().st_size for path in cache.folder.iterdir()) <= cache.limit


def test_a_cache_that_is_removed_or_cannot_be_written(
    local: Path, bucket: str, tmp_path: Path
) -> None:
    for path in local.iterdir():
        storage.put(f"s3://{bucket}/a/{path.name}", path)
    source = open_dataset(f"s3://{bucket}/a")
    first, folder = source.examples[0], tmp_path / "cache" / "shards"
    digest = first.digest()
    shutil.rmtree(folder)
    assert first.digest() == digest
    shutil.rmtree(folder)
    folder.write_bytes(b"no folder")
    with pytest.raises(InputError, match="cannot create the folder"):
        first.digest()
    folder.unlink()
    folder.mkdir()
    assert isinstance(first, Packed)
    assert isinstance(first.file, RemoteShard)
    there = cached_shards().path(first.file)
    there.unlink()
    lock = there.with_name(f".{there.name}.lock")
    lock.unlink()
    lock.mkdir()
    with pytest.raises(InputError, match="RESNETKIT_CACHE names another folder"):
        first.digest()


def test_processes_share_the_cache(local: Path, server: str, bucket: str, tmp_path: Path) -> None:
    for path in local.iterdir():
        storage.put(f"s3://{bucket}/a/{path.name}", path)
    wrong = Faults()
    with faulty(server, wrong) as address:
        code = (
            "import sys; from resnetkit.data.datasets.opening import open_dataset\n"
            "print(sum(len(e.image) for e in open_dataset(sys.argv[1]).examples))"
        )
        running = [
            subprocess.Popen(
                [sys.executable, "-c", code, f"s3://{bucket}/a"],
                env={**os.environ, "AWS_ENDPOINT_URL": address},
                stdout=subprocess.PIPE,
            )
            for _ in range(2)
        ]
        printed = {one.communicate()[0] for one in running}
    assert len(printed) == 1
    read = [path for method, path, _ in wrong.requests if method == "GET" and ".tar" in path]
    assert len(read) == len(set(read)) == len(list(local.glob("*.tar"))), "each is fetched once"

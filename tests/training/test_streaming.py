"""Training on shards of an S3 server: the same as on local ones, also with a cache too small."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from launching import free_port, torchrun

from hosts import wait_until
from object_storage import SETTINGS, Faults, faulty, make_bucket, s3_serving, use
from resnetkit.data import storage
from resnetkit.data.datasets import readability
from resnetkit.data.datasets.digits import digits
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.packed_samples import PackedSamples, images_in_order
from resnetkit.data.datasets.shard_cache import RemoteShard, cache_limit
from resnetkit.data.datasets.splits import load_record
from resnetkit.data.datasets.webdataset_writer import pack
from resnetkit.errors import InputError
from resnetkit.evaluation.evaluation import evaluate
from resnetkit.preprocess import Preprocess
from resnetkit.training import split_data
from resnetkit.training.data.data_loader import DataLoader, LoaderOptions
from resnetkit.training.data.epoch_order import EpochOrder
from resnetkit.training.distributed import Processes
from resnetkit.training.recipe.augmentation import Augment
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run import resume, run_recipe
from training.test_run import TINY, Interrupted, same

#: Megabytes of a shard, of about 55 images.
SHARD = 0.12
Machine = Callable[..., subprocess.Popen[str]]
#: Epochs of a run that is interrupted.
EPOCHS = 12


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_serving() as address:
        yield address


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "packed"
    source = digits()
    parts = {part: found[:600] for part, found in source.parts.items()}
    pack(replace(source, parts=parts, shape=None), folder, megabytes=SHARD)
    return folder


@pytest.fixture
def remote(
    local: Path, server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> str:
    use(monkeypatch, server)
    # A cache of another test has the same shards.
    monkeypatch.setenv("RESNETKIT_CACHE", str(request.getfixturevalue("tmp_path") / "cache"))
    bucket = f"streaming-{abs(hash(request.node.name)) % 10**9}"
    make_bucket(server, bucket)
    for path in local.iterdir():
        storage.put(f"s3://{bucket}/digits/{path.name}", path)
    return f"s3://{bucket}/digits"


def recipe(data: str | Path) -> Recipe:
    return make_recipe(data, model=TINY, size=8, epochs=2, batch_size=64, seed=5, lr=0.1)


def small_cache(local: Path, patch: pytest.MonkeyPatch, shards: float) -> None:
    largest = max(path.stat().st_size for path in local.glob("*.tar"))
    patch.setenv("RESNETKIT_SHARD_CACHE", str(largest * shards / 1e9))


def test_the_same_weights_as_from_a_folder(local: Path, remote: str, tmp_path: Path) -> None:
    run_recipe(recipe(local), tmp_path / "local")
    run_recipe(recipe(remote), tmp_path / "remote")
    assert same(tmp_path / "local" / "last.safetensors", tmp_path / "remote" / "last.safetensors")
    accuracy = evaluate(tmp_path / "remote" / "best.safetensors", remote, split="test").evaluation
    assert accuracy.accuracy > 0.1


@pytest.mark.parametrize(
    "decoded",
    [
        pytest.param(20_000, marks=pytest.mark.slow, id="digests"),
        pytest.param(100, id="membership"),
    ],
)
def test_a_small_cache_and_an_interruption(
    decoded: int,
    local: Path,
    remote: str,
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readability, "DECODED", decoded)
    monkeypatch.setattr(split_data, "DECODED", decoded)
    small_cache(local, monkeypatch, 6.5)
    run_recipe(recipe(remote), tmp_path / "whole")
    record = load_record(tmp_path / "whole")
    assert record is not None
    assert record.window == cache_limit() // 2
    assert (len(record.parts["train"]) < 20) == (decoded == 100)
    monkeypatch.setattr("resnetkit.data.storage_access._systems", {})
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / "other"))
    wrong = Faults()
    wrong.on, wrong.next_faults = ".tar", ["", "half", "503", "", "reset", "wrong"] * 3
    with faulty(server, wrong) as address:
        use(monkeypatch, address)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(recipe(remote), tmp_path / "run", Interrupted(14))
        small_cache(local, monkeypatch, 9)
        with pytest.raises(InputError, match="set RESNETKIT_SHARD_CACHE to that") as caught:
            resume(tmp_path / "run")
        told = re.search(r"a cache of (\S+) GB", str(caught.value))
        assert told is not None
        monkeypatch.setenv("RESNETKIT_SHARD_CACHE", told[1])
        resume(tmp_path / "run")
    assert len(wrong.used) > 5
    for name in ("best.safetensors", "last.safetensors"):
        assert same(tmp_path / "run" / name, tmp_path / "whole" / name)
    for part, samples in open_dataset(remote).parts.items():
        assert [e.name for e in record.part_of(samples, part)] == [e.name for e in samples]


def test_a_run_with_a_cache_for_all_shards_is_resumed_with_one(
    local: Path, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe(remote), tmp_path / "run", Interrupted(4))
    small_cache(local, monkeypatch, 6.5)
    with pytest.raises(
        InputError, match="twice as large as those of its training images"
    ) as caught:
        resume(tmp_path / "run")
    assert str(cache_limit() // 2 * 2 / 1e9) in str(caught.value)
    monkeypatch.delenv("RESNETKIT_SHARD_CACHE")
    resume(tmp_path / "run")


def test_a_storage_that_is_lost_stops_the_run(
    local: Path, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readability, "DECODED", 100)
    monkeypatch.setattr(split_data, "DECODED", 100)
    small_cache(local, monkeypatch, 6.5)
    chosen = recipe(remote)
    for one in list(storage.files(f"{remote}/train-*.tar"))[2:]:
        storage.put(one.address, b"x" * one.size)
    with pytest.raises(InputError, match="its index has"):
        run_recipe(chosen, tmp_path / "run")


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 9),
    shards=st.floats(2, 12),
    batch=st.integers(1, 90),
    repeats=st.integers(1, 3),
    machines=st.integers(1, 5),
    data=st.data(),
)
def test_every_image_once_in_an_order_of_seed_and_epoch(
    local: Path,
    seed: int,
    epoch: int,
    shards: float,
    batch: int,
    repeats: int,
    machines: int,
    data: st.DataObject,
) -> None:
    remote = stored(local, shards)

    def order_of(epoch: int) -> EpochOrder:
        return EpochOrder(remote, (seed, epoch), repeats, machines=machines, batch_size=batch)

    orders = [order_of(epoch).numbers.tolist() for _ in range(2)]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == list(range(len(remote)))
    assert orders[0] != order_of(epoch + 1).numbers.tolist()
    assert EpochOrder(remote, None, machines=machines).numbers.tolist() == sorted(orders[0])
    loader = DataLoader(
        remote,
        Preprocess(size=8),
        LoaderOptions(batch_size=batch, augment=Augment(), seed=seed, repeats=repeats),
    )
    first = data.draw(st.integers(0, len(loader) - 1))
    positions = loader._batches(len(remote))
    order = order_of(epoch)
    whole = [place for one in positions for place in order.places(one)]
    again = [place for one in positions[first:] for place in order.places(one)]
    assert len(whole) == len(remote)
    assert whole[len(whole) - len(again) :] == again
    if repeats == 1:
        assert len(set(whole)) == len(whole)


def stored(local: Path, shards: float) -> PackedSamples:
    """The training images as if they were in a storage, and the cache had room for ``shards``."""
    train = open_dataset(local).parts["train"]
    assert isinstance(train, PackedSamples)
    largest = max(shard.size for shard in train.shards)
    files = [replace(s, file=RemoteShard(f"s3://b/{s.name}", s.size)) for s in train.shards]
    return PackedSamples(files, train.rows, int(largest * shards) // 2)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**31),
    shards=st.floats(2, 12),
    each=st.integers(2, 9),
    machines=st.integers(1, 4),
    processes=st.integers(1, 2),
)
def test_a_machine_needs_only_its_part_of_the_shards(
    local: Path, seed: int, shards: float, each: int, machines: int, processes: int
) -> None:
    remote, world = stored(local, shards), machines * processes
    batch = each * world
    order = EpochOrder(remote, (seed, 0), machines=machines, batch_size=batch)
    batches = [range(at, at + batch) for at in range(0, len(remote) - batch + 1, batch)]
    needed: list[set[tuple[int, str]]] = [set() for _ in range(machines)]
    used = set()
    for number, group in enumerate(remote.groups()):
        used |= {(number, one.address) for one in remote.remote(group)}
    bounds = [*order._starts.tolist(), len(remote)]
    for rank in range(world):
        place = Processes(rank=rank, world=world, local=processes)
        for positions in batches:
            for position in place.share(positions):
                group = int(np.searchsorted(bounds, position, side="right"))
                for shard in remote.remote(order.numbers[position : position + 1]):
                    needed[rank // processes].add((group, shard.address))
    # A shard at the end of a part is also at the beginning of the next.
    most = len(used) + (len(bounds) - 1) * (machines - 1)
    assert sum(map(len, needed)) <= most
    assert all(names for names in needed)


def test_a_loader_of_a_small_cache_reads_every_image_once(
    local: Path, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_cache(local, monkeypatch, 4.5)
    train = open_dataset(remote).parts["train"]
    assert isinstance(train, PackedSamples)
    assert train.streams
    options = LoaderOptions(batch_size=32, augment=Augment(), seed=3, memory=0)
    for epoch in range(2):
        loader = DataLoader(train, Preprocess(size=8), options)
        names = [e.name for batch in loader.batches(epoch) for e in batch.examples]
        assert sorted(names) == sorted(e.name for e in train)
    used = sum(path.stat().st_size for path in (tmp_path / "cache" / "shards").iterdir())
    assert used <= cache_limit()
    labels = torch.tensor([e.label for e in train])
    assert np.array_equal(loader._labels, labels)


def test_two_machines_fetch_half_of_the_shards_each(
    local: Path, remote: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_cache(local, monkeypatch, 8.5)
    shards = len(list(local.glob("train-*.tar")))
    read: Counter[str] = Counter()
    for rank in range(2):
        requests = Faults()
        monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / f"cache{rank}"))
        with faulty(server, requests) as address:
            use(monkeypatch, address)
            loader = DataLoader(
                open_dataset(remote).parts["train"],
                Preprocess(size=8),
                LoaderOptions(batch_size=32, augment=Augment(), memory=0, machines=2, seed=1),
                share=Processes(rank=rank, world=2).share,
            )
            read.update(e.name for batch in loader.batches() for e in batch.examples)
        fetched = [
            path
            for method, path, _ in requests.requests
            if method == "GET" and "/train-" in path and path.endswith(".tar")
        ]
        assert len(fetched) <= shards / 2 + 3, (fetched, shards)
    assert read == Counter(e.name for e in open_dataset(local).parts["train"])


@pytest.fixture
def machine(local: Path, server: str, tmp_path: Path) -> Machine:
    """Starts what torchrun runs on a machine: its number, its processes, those of all machines, the
    shards that its cache has room for, and the words of a command."""
    largest = max(path.stat().st_size for path in local.glob("*.tar"))
    rendezvous = f"127.0.0.1:{free_port()}"
    (tmp_path / "notes").mkdir()

    def start(
        number: int, processes: int, nodes: int, shards: float, *words: object
    ) -> subprocess.Popen[str]:
        return torchrun(
            *("--nnodes", nodes, "--nproc-per-node", processes, "--rdzv-backend", "c10d"),
            *("--rdzv-endpoint", rendezvous, "--rdzv-id", 17, "--local-addr", "127.0.0.1"),
            *(Path(__file__).with_name("noted.py"), tmp_path / "notes", "train", *words),
            **SETTINGS,
            AWS_ENDPOINT_URL=server,
            RESNETKIT_CACHE=str(tmp_path / f"cache{number}"),
            RESNETKIT_SHARD_CACHE=str(largest * shards / 1e9),
        )

    return start


def noted(notes: Path) -> list[str]:
    """The lines of the processes, one for each step."""
    return [line for path in notes.iterdir() for line in path.read_text().splitlines()]


def images_of(notes: Path) -> Counter[tuple[int, str]]:
    """How often each image was trained on in each epoch."""
    counts: Counter[tuple[int, str]] = Counter()
    for line in noted(notes):
        _, (epoch, _), names = json.loads(line)
        counts.update((epoch, name) for name in names)
    return counts


@pytest.mark.slow
def test_a_run_on_two_machines_is_resumed_on_one(
    local: Path, remote: str, machine: Machine, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    words = (
        f"{remote} --model resnet20 --depths 1,1 --widths 16,32 --size 8 --epochs {EPOCHS} "
        f"--batch-size 32 --out {tmp_path / 'run'}"
    ).split()
    jobs = [machine(number, 1, 2, 8.5, *words) for number in range(2)]
    wait_until(lambda: len(noted(notes)) > 50, "some steps", 60)
    jobs[0].send_signal(signal.SIGTERM)
    said = [job.communicate(timeout=60) for job in jobs]
    assert json.loads((tmp_path / "run" / "split.json").read_text())["machines"] == 2, said
    before = len(noted(notes))
    job = machine(2, 1, 1, 8.5, "--resume", tmp_path / "run")
    ended = job.communicate(timeout=120)
    assert job.returncode == 0, ended
    assert before < len(noted(notes))
    train = open_dataset(local).parts["train"]
    assert images_of(notes) == Counter(
        {(epoch, one.name): 1 for epoch in range(EPOCHS) for one in train}
    )
    assert json.loads((tmp_path / "run" / "split.json").read_text())["machines"] == 2


def test_evaluation_fetches_the_next_shard(
    local: Path, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_cache(local, monkeypatch, 2.5)
    train = open_dataset(remote).parts["train"]
    cache = tmp_path / "cache" / "shards"
    images = images_in_order(train, range(10, len(train)))
    next(images)
    wait_until(lambda: len(list(cache.glob("*-train-*.tar"))) == 2, "the next shard", 30)
    read = hashlib.sha256(b"".join(bytes(image) for image in images)).hexdigest()
    there = open_dataset(local).parts["train"][11:]
    assert read == hashlib.sha256(b"".join(bytes(one.image) for one in there)).hexdigest()
    assert sum(path.stat().st_size for path in cache.glob("*.tar")) <= cache_limit()


@pytest.mark.slow
def test_machines_with_unlike_numbers_of_processes(
    local: Path, remote: str, machine: Machine, tmp_path: Path
) -> None:
    words = (
        f"{remote} --model resnet20 --depths 1,1 --widths 16,32 --size 8 --epochs 2 "
        f"--batch-size 33 --out {tmp_path / 'run'}"
    ).split()
    jobs = [machine(number, 2 - number, 2, 8.5, *words) for number in range(2)]
    said = [job.communicate(timeout=120) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    train = open_dataset(local).parts["train"]
    expected = Counter({(epoch, one.name): 1 for epoch in range(2) for one in train})
    assert images_of(tmp_path / "notes") == expected


@pytest.mark.slow
def test_machines_with_unlike_caches_are_refused(
    remote: str, machine: Machine, tmp_path: Path
) -> None:
    words = (remote, *"--model resnet20 --size 8 --batch-size 32 --out".split(), tmp_path / "run")
    jobs = [machine(number, 1, 2, 8.5 + number, *words) for number in range(2)]
    said = [job.communicate(timeout=120)[1] for job in jobs]
    assert any("the caches for shards differ between machines" in text for text in said), said
    assert not images_of(tmp_path / "notes")

"""Partitions have all images, once and in the order of the local command."""

from __future__ import annotations

import io
import json
import tarfile
from itertools import chain
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from resnetkit.cluster.partition_folder import PLAN, SUCCESS, PartitionFolder
from resnetkit.cluster.partitions import Partition, _of_files, identity, partitions
from resnetkit.cluster.ray_prediction import _are_few
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.webdataset_writer import pack
from resnetkit.data.listing import ImageEntry, ImageSource, listed
from resnetkit.errors import InputError
from resnetkit.inference.prediction import ClassScore, Prediction
from resnetkit.inference.predictor import FEW
from resnetkit.inference.results.parquet import Parquet


def encoded(number: int) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Every kind of input: a folder, a picture, shards, Parquet of bytes, structs and paths."""
    root = tmp_path_factory.mktemp("kinds")
    for number in range(11):
        path = root / "folder" / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(number))
    (root / "one.png").write_bytes(encoded(99))
    for shard in range(2):
        with tarfile.open(root / f"shard-{shard}.tar", "w") as tar:
            for number in range(3):
                entry = tarfile.TarInfo(f"{number}.png")
                entry.size = len(encoded(number))
                tar.addfile(entry, io.BytesIO(encoded(number)))
    rows = [None if number == 3 else encoded(number) for number in range(7)]
    parquet.write_table(pyarrow.table({"n": range(7), "image": rows}), root / "bytes.parquet",
                        row_group_size=3)  # fmt: skip
    structs = [{"bytes": row, "path": f"{n}.png"} for n, row in enumerate(rows) if row]
    parquet.write_table(pyarrow.table({"image": structs}), root / "structs.parquet")
    paths = [f"folder/0/{number}.png" for number in (0, 2, 4)]
    parquet.write_table(pyarrow.table({"path": paths, "label": [0, 1, 2]}), root / "paths.parquet")
    names = ("folder", "one.png", "shard-0.tar", "bytes.parquet", "shard-1.tar", "structs.parquet",
             "paths.parquet")  # fmt: skip
    return [str(root / name) for name in names]


@given(data=st.data(), size=st.integers(1, 20))
def test_all_images_once_in_order(kinds: list[str], data: st.DataObject, size: int) -> None:
    paths = data.draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4))
    found = partitions(paths, size)
    read = [Partition.from_json(one.to_json()) for one in found]
    assert read == found
    assert [one.number for one in found] == list(range(len(found)))
    images = list(chain(*(one.images() for one in read)))
    wanted = list(listed(paths))
    assert [one.name for one in images] == [one.name for one in wanted]
    assert [one.image for one in images] == [one.image for one in wanted]
    assert [one.problem for one in images] == [one.problem for one in wanted]
    for one in found:
        count = len(list(one.images()))
        assert one.count in (None, count)
        assert (one.kind == "shard") == (one.count is None)
        assert count <= size or one.kind == "shard"


def test_what_cannot_be_listed_stays_a_row() -> None:
    entries = [
        ImageEntry(name="a.png", image=Path("a.png")),
        ImageEntry(name="closed", problem="the folder cannot be listed: Permission denied"),
        ImageEntry(name="s3://b/c.png", address="s3://b/c.png", size=7),
        ImageEntry(name="s3://b/big.png", problem="it is too large"),
    ]
    found = list(Partition.from_json(_of_files(0, entries).to_json()).images())
    for field in ("name", "image", "problem", "address", "size"):
        assert [getattr(one, field) for one in found] == [getattr(one, field) for one in entries]


def test_shards_with_an_index(kinds: list[str], tmp_path: Path) -> None:
    """Their numbers of images are known without reading them."""
    pack(open_dataset(kinds[0]), tmp_path / "packed", megabytes=0.01)
    found = partitions([str(tmp_path / "packed"), kinds[2]])
    assert len(found) > 2
    assert [one.kind for one in found] == ["shard"] * len(found)
    assert [one.count for one in found[:-1]] == [len(list(one.images())) for one in found[:-1]]
    assert sum(one.count or 0 for one in found[:-1]) == 11
    assert found[-1].count is None
    names = [image.name for one in found for image in one.images()]
    assert names == [image.name for image in listed([str(tmp_path / "packed"), kinds[2]])]


def test_rows_of_a_parquet_file_are_predicted_like_pictures(
    kinds: list[str], bundle: Path, tmp_path: Path
) -> None:
    import resnetkit

    by_name = {Path(path).name: path for path in kinds}
    rows = list(resnetkit.predict(bundle, by_name["bytes.parquet"], engine="openvino"))
    assert [row.problem for row in rows] == [None] * 3 + ["the row is empty"] + [None] * 3
    assert rows[5].name == f"{by_name['bytes.parquet']}/000005"
    files = list(resnetkit.predict(bundle, by_name["paths.parquet"], engine="openvino"))
    assert files[1].name == str(Path(by_name["folder"], "0", "2.png"))
    assert files[1].scores == rows[2].scores
    parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "none.parquet")
    parquet.write_table(pyarrow.table({"a": [b""], "b": [b""]}), tmp_path / "two.parquet")
    with pytest.raises(InputError, match="no column of images; its columns are a; name the one"):
        partitions([str(tmp_path / "none.parquet")])
    (row,) = listed([str(tmp_path / "two.parquet")])
    assert "2 columns of images (a, b); keep one" in (row.problem or "")


def test_nothing_for_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for paths, message in (
        ([str(tmp_path / "empty")], "has no images"),
        ([str(tmp_path / "no")], "does not exist"),
        (["-"], "standard input"),
    ):
        with pytest.raises(InputError, match=message):
            partitions(paths)
    with pytest.raises(InputError, match="partition_size is 0"):
        partitions([str(tmp_path)], 0)


def rows_of(count: int) -> list[Prediction]:
    scores = (ClassScore(label="a", probability=0.75),)
    rows = [Prediction(name=f"{number}.png", scores=scores) for number in range(count)]
    return [*rows, Prediction(name="broken.png", problem="it is broken")]


def test_a_folder_keeps_whole_files_of_its_own_plan(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    folder, plan = PartitionFolder(str(out)), {"model": "a", "partitions": 3}
    assert folder.claim(plan) == {}
    assert folder.counts(1) is None
    counts = folder.write(1, rows_of(4), Parquet("logits", 0))
    assert (counts.images, counts.unreadable) == (5, 1)
    (out / ".part-000002.parquet.x1").write_bytes(b"left by a kill")
    assert PartitionFolder(str(out)).claim(plan) == {1: counts}
    assert sorted(path.name for path in out.iterdir()) == [PLAN, "part-000001.parquet"]
    assert folder.is_claimed_by(plan)
    assert not folder.is_claimed_by({**plan, "model": "b"})
    folder.finish()
    # Readers of Parquet folders pass over the plan and the mark.
    table = parquet.read_table(out)
    assert (out / SUCCESS).exists()
    assert table.column_names == ["image", "problem", "classes", "probabilities"]
    assert table["problem"].to_pylist() == [None] * 4 + ["it is broken"]
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(InputError, match=r"another run \(another model, partitions\)"):
        folder.claim({"model": "b", "partitions": 4})
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_plan_without_predictions_is_replaced(tmp_path: Path) -> None:
    """A command that failed before the first file leaves nothing that another one must repeat."""
    first, second = {"model": "a"}, {"model": "b"}
    folder = PartitionFolder(str(tmp_path / "out"))
    assert folder.claim(first) == folder.claim(second) == {}
    assert folder.is_claimed_by(second)
    assert not folder.is_claimed_by(first)
    folder.write(0, rows_of(1), Parquet("logits", 0))
    with pytest.raises(InputError, match=r"another run \(another model\)"):
        folder.claim(first)


def test_a_folder_that_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file; give a folder"):
        PartitionFolder(str(tmp_path / "file")).claim({})
    with pytest.raises(InputError, match=r"not empty and has no _plan\.json"):
        PartitionFolder(str(tmp_path)).claim({})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(InputError, match="cannot use the folder"):
        PartitionFolder("/proc/1/none").claim({})
    ours = tmp_path / "ours"
    folder = PartitionFolder(str(ours))
    folder.claim({"model": "a"})
    for content in (b"", b"no Parquet", json.dumps({}).encode()):
        (ours / "part-000000.parquet").write_bytes(content)
        with pytest.raises(InputError, match="was not written by this command; remove it"):
            folder.claim({"model": "a"})


@pytest.mark.parametrize(("images", "few"), [(63, True), (64, False)])
def test_few_images_get_exact_pixels_as_in_the_local_command(
    images: int, few: bool, tmp_path: Path
) -> None:
    """However they are divided, and also in a shard, whose images are not counted."""
    for number in range(images):
        (tmp_path / f"{number}.png").write_bytes(b"")
    paths = [str(tmp_path)]
    assert _are_few(partitions(paths, 10)) is few
    assert ImageSource(paths).has(FEW) is not few
    shard = tmp_path / "a.tar"
    with tarfile.open(shard, "w") as tar:
        for number in range(images):
            tar.addfile(tarfile.TarInfo(f"{number}.png"))
    assert _are_few(partitions([str(shard)])) is few
    assert ImageSource([str(shard)]).has(FEW) is not few


def test_the_identity_is_that_of_the_images(kinds: list[str]) -> None:
    found = partitions(kinds, 5)
    assert identity(found) == identity(partitions(kinds, 5))
    assert identity(found) != identity(partitions(kinds, 6))
    assert identity(found) != identity(partitions(kinds[1:], 5))

"""Near-duplicates: compared with a plain loop, and found again among real pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import pyarrow
import pytest
import skimage.data
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

import resnetkit
from resnetkit.cli.main import main
from resnetkit.errors import AssumptionWarning, InputError
from resnetkit.inspect import Duplicates, duplicates, embeddings, find_duplicates

Array = npt.NDArray[np.float32]


def by_a_loop(names: list[str], vectors: Array, threshold: float) -> dict[str, list[str]]:
    """What the docstring says, one image after another."""
    kept: list[int] = []
    found: dict[str, list[str]] = {}
    rows = vectors.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for row in range(len(rows)):
        if np.isnan(rows[row]).any():
            continue
        similar = rows[kept] @ rows[row] if kept else np.empty(0)
        if len(similar) and similar.max() >= threshold:
            found.setdefault(names[kept[int(similar.argmax())]], []).append(names[row])
        else:
            kept.append(row)
    return found


def grouped(found: Duplicates) -> dict[str, list[str]]:
    return {g.kept: sorted((one.name for one in g.duplicates), key=int) for g in found.groups}


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 60),
    threshold=st.sampled_from([0.5, 0.9, 0.99]),
    part=st.integers(1, 70),
)
def test_as_a_loop_over_all_images(seed: int, count: int, threshold: float, part: int) -> None:
    noise = np.random.default_rng(seed)
    vectors = noise.standard_normal((count, 6)).astype(np.float32)
    near = noise.integers(0, count, count)
    copied = noise.random(count) < 0.5
    vectors[copied] = vectors[near[copied]] + 0.1 * noise.standard_normal((copied.sum(), 6))
    vectors[noise.random(count) < 0.1] = np.nan
    names = [str(number) for number in range(count)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embeddings, "ROWS", part)
        patch.setattr(duplicates, "_ROWS", max(1, part // 2))
        found = find_duplicates((names, vectors), threshold)
    assert grouped(found) == by_a_loop(names, vectors, threshold)
    assert found.images == count
    assert found.unreadable == np.isnan(vectors).any(axis=1).sum()
    sizes = [len(group.duplicates) for group in found.groups]
    assert sizes == sorted(sizes, reverse=True)
    assert found.count == sum(sizes)


def test_the_search_in_cells_misses_few() -> None:
    noise = np.random.default_rng(0)
    vectors = np.abs(noise.standard_normal((6000, 64))).astype(np.float32)
    vectors[3000:4000] = vectors[:1000] + 0.1 * noise.standard_normal((1000, 64))
    names = [str(number) for number in range(6000)]
    exact = find_duplicates((names, vectors), 0.97)
    fast = find_duplicates((names, vectors), 0.97, exact=False)
    assert (exact.method, fast.method) == ("exact", "approximate")
    assert exact.count > 900
    assert 0.97 * exact.count <= fast.count <= exact.count


def test_one_image_many_times() -> None:
    """No more than a name for each is kept."""
    vectors = np.ones((5000, 8), np.float32)
    names = [str(number) for number in range(5000)]
    for exact in (True, False):
        (group,) = find_duplicates((names, vectors), 1.0, exact=exact).groups
        assert (group.kept, len(group.duplicates)) == ("0", 4999)
        assert all(1 - 1e-6 < one.similarity <= 1 for one in group.duplicates)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, smaller and recompressed copies of two of them, and a broken one; embedded."""
    root = tmp_path_factory.mktemp("duplicates")
    pictures = root / "pictures"
    pictures.mkdir()
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        picture = PIL.Image.fromarray(getattr(skimage.data, name)()).resize((200, 150))
        picture.save(pictures / f"{name}.png")
        if name in ("chelsea", "rocket"):
            picture.save(pictures / f"{name}-again.jpg", quality=60)
            picture.resize((120, 90)).save(pictures / f"{name}-small.png")
    (pictures / "broken.jpg").write_bytes(b"")
    torch.manual_seed(0)
    module = resnetkit.build("resnet18").eval()
    bundle = resnetkit.Bundle.from_module(
        module, preprocess=resnetkit.Preprocess(size=64), classes=tuple(map(str, range(1000)))
    )
    for name in ("found.parquet", "found.npy"):
        missing = resnetkit.predict_to_file(
            bundle, pictures, root / name, embeddings=True, engine="openvino"
        )
        assert missing == 1
    (root / "folder").mkdir()
    (root / "folder" / "part-000000.parquet").write_bytes((root / "found.parquet").read_bytes())
    (root / "folder" / "_plan.json").write_text("{}")
    (root / "folder" / "_SUCCESS").touch()
    return root


@pytest.mark.parametrize("name", ["found.parquet", "found.npy", "folder"])
def test_copies_of_photographs(
    written: Path, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["duplicates", str(written / name), "--threshold", "0.999"]
    assert main([*arguments, "--format", "json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == (
        "resnetkit: passed over without an embedding: 1 images that could not be read\n"
    )
    document = json.loads(printed.out)
    assert (document["images"], document["unreadable"], document["duplicates"]) == (9, 1, 4)
    groups = {
        Path(group["kept"]).name: sorted(Path(one["image"]).name for one in group["duplicates"])
        for group in document["groups"]
    }
    assert groups == {
        "chelsea-again.jpg": ["chelsea-small.png", "chelsea.png"],
        "rocket-again.jpg": ["rocket-small.png", "rocket.png"],
    }
    assert main([*arguments, "--groups", "1"]) == 0
    table = capsys.readouterr().out
    assert "... and 1 more groups" in table
    assert "4 near-duplicates of 2 among 9 images, with a cosine similarity of 0.999" in table
    out = tmp_path / "found.csv"
    assert main([*arguments, "--out", str(out)]) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert {Path(row["duplicate_of"]).name for row in rows} == set(groups)
    assert all(0.999 <= float(row["similarity"]) <= 1 for row in rows)


def write_embeddings(path: Path, size: int) -> None:
    """Three images with embeddings of ``size`` numbers."""
    vectors = pyarrow.array([[1.0] * size] * 3, pyarrow.list_(pyarrow.float32(), size))
    names = [f"{number}.png" for number in range(3)]
    parquet.write_table(pyarrow.table({"image": names, "embedding": vectors}), path)


def test_a_folder_that_is_not_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a cluster leaves it when it is killed."""
    write_embeddings(tmp_path / "part-000000.parquet", 4)
    (tmp_path / "_plan.json").write_text("{}")
    assert main(["duplicates", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "2 near-duplicates of 1 among 3 images" in printed.out
    message = "is not complete: only what is there is read; the same call of predict finishes it"
    assert printed.err == f"resnetkit: {tmp_path} {message}\n"
    with pytest.warns(AssumptionWarning, match="is not complete"):
        find_duplicates(tmp_path)
    (tmp_path / "_SUCCESS").touch()
    assert main(["duplicates", str(tmp_path)]) == 0
    assert not capsys.readouterr().err


def test_what_is_no_file_of_embeddings(
    written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.txt").write_text("a.png")
    (tmp_path / "no.parquet").write_bytes(b"PAR1")
    for name, columns in (
        ("classes", {"image": ["a"], "classes": [["x"]]}),
        ("lists", {"image": ["a"], "embedding": [[1.0, 2.0]]}),
    ):
        parquet.write_table(pyarrow.table(columns), tmp_path / f"{name}.parquet")
    (tmp_path / "two").mkdir()
    for size in (2, 3):
        write_embeddings(tmp_path / "two" / f"{size}.parquet", size)
    for name, message in (
        ("no", "does not exist; give a file or folder of embeddings"),
        ("classes.parquet", "has no column embedding, but image, classes; write it by"),
        ("lists.parquet", "is list<element: double>; it must be fixed_size_list"),
        ("two", "3.parquet has embeddings of 3 numbers, and "),
        ("no.txt", "is not a .npy or .parquet file"),
        ("none.npy", "does not exist"),
        ("no.parquet", "has no embeddings that can be read"),
        ("empty", "has no .parquet files; give the folder that predict wrote"),
    ):
        assert main(["duplicates", str(tmp_path / name)]) == 2
        printed = capsys.readouterr().err
        assert message in printed
        assert len(printed.splitlines()) == 1
    source = str(written / "found.npy")
    assert main(["duplicates", source, "--threshold", "1.5"]) == 2
    assert "--threshold is 1.5; it must be above 0, up to 1" in capsys.readouterr().err
    assert main(["duplicates", source, "--groups", "0"]) == 2
    assert "--groups is 0" in capsys.readouterr().err
    with pytest.raises(InputError, match="they must be"):
        find_duplicates((["a"], np.zeros((2, 3))))

"""The nearest images, from every file that embeddings are written to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import resnetkit
from inspected import bundle_of, photo
from photographs import write_classes
from resnetkit.errors import InputError
from resnetkit.inspect import embeddings, nearest


@pytest.fixture(scope="module")
def bundle() -> resnetkit.Bundle:
    return bundle_of("cifar")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, bundle: resnetkit.Bundle) -> Path:
    """Pictures, one of them broken, and files of their embeddings."""
    folder = tmp_path_factory.mktemp("nearest")
    write_classes(folder / "pictures", 3, classes=("brick", "coffee"))
    (folder / "pictures" / "coffee" / "01.jpg").write_bytes(b"broken")
    for name in ("all.npy", "all.parquet", "all.csv"):
        unreadable = resnetkit.predict_to_file(
            bundle, folder / "pictures", folder / name, embeddings=True, exact=True
        )
        assert unreadable == 1
    resnetkit.predict_to_file(bundle, folder / "pictures", folder / "classes.parquet", exact=True)
    return folder


@pytest.mark.parametrize("name", ["all.npy", "all.parquet"])
def test_files(name: str, folder: Path, bundle: resnetkit.Bundle) -> None:
    image = folder / "pictures" / "brick" / "02.jpg"
    found = nearest(bundle, image, folder / name, 99)
    assert found[0].name == str(image)
    assert found[0].similarity == pytest.approx(1, abs=1e-6)
    assert len(found) == 5  # the broken one has no place
    assert not any("01.jpg" in one.name and "coffee" in one.name for one in found)
    similar = [one.similarity for one in found]
    assert similar == sorted(similar, reverse=True)
    assert nearest(bundle, image, str(folder / name), 2) == found[:2]


def test_it_is_the_cosine(folder: Path, bundle: resnetkit.Bundle) -> None:
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((50, 64)).astype(np.float32)
    names = [f"image {number}" for number in range(50)]
    (vector,) = resnetkit.embed(bundle, [photo()])
    cosines = vectors @ vector / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vector)
    found = nearest(bundle, photo(), (names, vectors), 7)
    assert [one.name for one in found] == [names[row] for row in np.argsort(-cosines)[:7]]
    assert found[0].similarity == pytest.approx(cosines.max(), rel=1e-5)
    scaled = nearest(bundle, photo(), (names, vectors * 1e3), 7)
    assert [one.name for one in scaled] == [one.name for one in found]


def test_in_parts(bundle: resnetkit.Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 64))
    names = [str(number) for number in range(50)]
    whole = nearest(bundle, photo(), (names, vectors), 50)
    monkeypatch.setattr(embeddings, "ROWS", 7)
    parts = nearest(bundle, photo(), (names, vectors), 50)
    assert [one.name for one in parts] == [one.name for one in whole]


def test_vectors_without_a_direction(bundle: resnetkit.Bundle) -> None:
    (vector,) = resnetkit.embed(bundle, [photo()])
    rows = np.stack([np.zeros(64), vector, -vector, np.full(64, np.nan)])
    found = nearest(bundle, photo(), (["zero", "same", "opposite", "bad"], rows))
    assert [(one.name, round(one.similarity, 5)) for one in found] == [
        ("same", 1), ("zero", 0), ("opposite", -1),
    ]  # fmt: skip


def test_no_images(bundle: resnetkit.Bundle) -> None:
    assert nearest(bundle, photo(), ([], np.empty((0, 64)))) == ()


def test_bad_embeddings(bundle: resnetkit.Bundle, folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "lonely.npy", np.zeros((2, 64)))
    np.save(tmp_path / "short.npy", np.zeros((2, 64)))
    (tmp_path / "short.npy.jsonl").write_text('{"image": "a"}\n')
    (tmp_path / "broken.npy").write_bytes(b"nothing")
    (tmp_path / "broken.npy.jsonl").write_text("")
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    np.save(tmp_path / "objects.npy", np.array([{}, {}]), allow_pickle=True)
    (tmp_path / "objects.npy.jsonl").write_text("")
    bad: list[tuple[Any, str]] = [
        (folder / "all.csv", r"all.csv is not a .npy or .parquet file"),
        (tmp_path / "none.npy", "none.npy does not exist"),
        (tmp_path / "lonely.npy", "has no lonely.npy.jsonl with its names"),
        (tmp_path / "short.npy", "1 names and float64 numbers 2x64"),
        (tmp_path / "broken.npy", "no embeddings that can be read"),
        (tmp_path / "objects.npy", "no embeddings that can be read"),
        (tmp_path / "broken.parquet", "no embeddings that can be read"),
        (folder / "classes.parquet", "classes.parquet has no column embedding"),
        ((["a"], np.zeros(64)), "1 names and float64 numbers 64; they must be"),
        ((["a"], np.zeros((1, 32))), "have 32 features, and the model's 64"),
        ((["a"], np.array([["x"]])), "must be"),
    ]
    for given, message in bad:
        with pytest.raises(InputError, match=message) as caught:
            nearest(bundle, photo(), given)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="count is 0"):
        nearest(bundle, photo(), (["a"], np.zeros((1, 64))), 0)
    with pytest.raises(InputError, match=r"none.png"):
        nearest(bundle, "none.png", (["a"], np.zeros((1, 64))))

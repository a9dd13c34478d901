"""Images that cannot be read: named, counted, left out, and too many of them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

import resnetkit
from photographs import write_classes
from resnetkit.cli.main import main
from resnetkit.data.datasets import readability
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.splits import load_record
from resnetkit.data.datasets.webdataset_writer import pack
from resnetkit.errors import InputError
from resnetkit.training.callbacks import Callback, RunOptions
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run import resume, run_recipe
from resnetkit.training.run_folder import FILES

TINY = resnetkit.network("resnet20", depths=(1, 1), widths=(8, 16), stem_widths=(8,))


class Told(Callback):
    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "data", 12, classes=("brick", "coffee"))


def recipe_of(data: Path, **choices: object) -> Recipe:
    return make_recipe(data, TINY, size=16, **{"epochs": 1, "batch_size": 4, **choices})


def test_a_few_are_named_and_left_out(data: Path, tmp_path: Path) -> None:
    (data / "brick" / "03.jpg").write_bytes(b"not an image")
    callback = Told()
    run_recipe(recipe_of(data), tmp_path / "run", callback, run_options=RunOptions(max_bad=0.05))
    text = (tmp_path / "run" / readability.FILE).read_text()
    assert text == "brick/03.jpg: not an image, or of an unsupported format\n"
    assert callback.said[0].startswith("skipped brick/03.jpg: not an image")
    assert "1 of 24 images" in callback.said[1]


def test_too_many_stop_before_the_first_step(data: Path, tmp_path: Path) -> None:
    (data / "brick" / "03.jpg").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"1 of 24 images .* brick/03\.jpg.*max_bad 0\.01"):
        run_recipe(recipe_of(data), tmp_path / "run", Told())
    assert not (tmp_path / "run").exists()
    for share in (-0.1, 1.5):
        with pytest.raises(InputError, match="max_bad"):
            RunOptions(max_bad=share)


def test_those_found_in_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of very many images only the sizes are taken before; so a bad one is met in a batch."""
    monkeypatch.setattr(readability, "DECODED", 5)
    for name in ("03", "05", "07", "09", "11"):
        (data / "brick" / f"{name}.jpg").write_bytes(b"not an image")
    callback = Told()
    with pytest.raises(InputError, match=r"3 of 24 images .* more than max_bad 0\.1"):
        run_recipe(recipe_of(data), tmp_path / "run", callback, run_options=RunOptions(max_bad=0.1))
    assert len((tmp_path / "run" / readability.FILE).read_text().splitlines()) == 3
    callback = Told()
    result = resume(tmp_path / "run", callback, run_options=RunOptions(max_bad=0.5))
    held = load_record(tmp_path / "run").parts
    named = (tmp_path / "run" / readability.FILE).read_text()
    in_use = {*held["train"], *held["validation"]}
    assert all((f"brick/{n}.jpg" in named) == (f"brick/{n}.jpg" in in_use) for n in ("03", "05"))
    assert all(digest.startswith("size:") for digest in held["train"].values())
    assert result.test is not None
    source = open_dataset(data)
    assert set(load_record(tmp_path / "run").trained_on(source.examples)) == set(held["train"])


def test_a_batch_larger_than_the_data(data: Path, tmp_path: Path) -> None:
    recipe = recipe_of(data, batch_size=100)
    with pytest.raises(InputError, match="batch_size is 100; it must be at most 16"):
        run_recipe(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_shards_are_trained_on_alike(data: Path, tmp_path: Path) -> None:
    pack(open_dataset(data), tmp_path / "packed", megabytes=0.05)
    recipe = recipe_of(tmp_path / "packed")
    assert recipe.data == str((tmp_path / "packed").resolve())
    result = run_recipe(recipe, tmp_path / "run", Told())
    assert result.test.images == 4
    assert {path.name for path in result.folder.iterdir()} <= set(FILES)


def test_idx_files_are_small_and_grey(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    for word, count in (("train", 60), ("t10k", 10)):
        labels = np.arange(count, dtype=np.uint8) % 3
        images = np.zeros((count, 28, 28), np.uint8)
        images[np.arange(count), 8 * labels + 4] = 255
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim])
            head += b"".join(side.to_bytes(4, "big") for side in array.shape)
            path = folder / f"{word}-{name}-ubyte.gz"
            path.write_bytes(gzip.compress(head + array.tobytes()))
    recipe = make_recipe(folder)
    assert (recipe.network.name, recipe.preprocess.size) == ("resnet20", 28)
    assert recipe.network.options.in_chans == 1
    assert recipe.preprocess.mean == (pytest.approx(1 / 28, abs=1e-3),)
    assert not recipe.augment.flip
    words = ["train", str(folder), "--out", str(tmp_path / "run"), "--epochs", "2"]
    words += "--depths 1,1 --widths 8,16 --stem-widths 8 --batch-size 8 --model resnet20".split()
    assert main(words) == 0
    assert "test accuracy" in capsys.readouterr().out

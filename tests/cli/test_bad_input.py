"""Bad input of training through the command line: one line, exit code 2, nothing left behind."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import resnetkit
from resnetkit.bundle.bundle import Bundle
from resnetkit.cli.main import main
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.datasets.webdataset_writer import pack
from resnetkit.nn.resnet import build
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run import run_recipe

TINY = resnetkit.network("resnet20", depths=(1,), widths=(8,), stem_widths=(8,))
CHOICES = "--model resnet20 --depths 1 --widths 8 --stem-widths 8 --size 16 --epochs 1".split()
#: What is given to `resnetkit train`; files are made in the folder of the test.
Case = Callable[[Path], list[str]]


def pictures(place: Path, count: int = 8) -> None:
    place.mkdir(parents=True)
    for number in range(count):
        draw = np.random.default_rng([number, *map(ord, place.name)])
        pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(place / f"{number}.png")


def classes(root: Path, *names: str, count: int = 8) -> Path:
    for name in names:
        pictures(root / name, count)
    return root


def label_not_in_the_list(root: Path) -> list[str]:
    pictures(root / "images")
    lines = [f"images/{n}.png,{'owl' if n == 5 else 'cat'}" for n in range(8)]
    (root / "classes.txt").write_text("cat\ndog\n")
    (root / "t.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    return ["t.csv", *CHOICES]


def label_above_the_list(root: Path) -> list[str]:
    pack(open_dataset(classes(root / "data", "cat", "dog")), root / "packed")
    (root / "packed" / "classes.txt").write_text("cat\n")
    return ["packed", *CHOICES]


def empty_split(root: Path) -> list[str]:
    classes(root / "data" / "train", "cat", "dog")
    (root / "data" / "val").mkdir()
    return ["data", *CHOICES]


def split_without_images(root: Path) -> list[str]:
    classes(root / "data" / "train", "cat", "dog")
    (root / "data" / "val" / "cat").mkdir(parents=True)
    return ["data", *CHOICES]


def table_without_training_images(root: Path) -> list[str]:
    pictures(root / "images")
    lines = [f"images/{n}.png,{'dog' if n % 2 else 'cat'},val" for n in range(8)]
    (root / "t.csv").write_text("\n".join(["path,label,split", *lines]) + "\n")
    return ["t.csv", *CHOICES]


def class_that_only_val_has(root: Path) -> list[str]:
    classes(root / "data" / "train", "cat", "dog")
    classes(root / "data" / "val", "cat", "dog", "owl")
    return ["data", *CHOICES]


def batch_larger_than_the_data(root: Path) -> list[str]:
    classes(root / "data", "cat", "dog")
    return ["data", *CHOICES, "--batch-size", "64"]


def shard_that_ends_early(root: Path) -> list[str]:
    pack(open_dataset(classes(root / "data", "cat", "dog")), root / "packed")
    shard = next((root / "packed").glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:4000])
    return ["packed", *CHOICES]


def unknown_field(root: Path) -> list[str]:
    classes(root / "data", "cat", "dog")
    (root / "r.toml").write_text("weight_decai = 0.1\n")
    return ["data", *CHOICES, "--recipe", "r.toml"]


def unknown_field_of_augment(root: Path) -> list[str]:
    classes(root / "data", "cat", "dog")
    (root / "r.toml").write_text("[augment]\nflipp = true\n")
    return ["data", *CHOICES, "--recipe", "r.toml"]


def field_of_another_kind(root: Path) -> list[str]:
    classes(root / "data", "cat", "dog")
    (root / "r.toml").write_text('lr = "fast"\n')
    return ["data", *CHOICES, "--recipe", "r.toml"]


def table_for_a_number(root: Path) -> list[str]:
    classes(root / "data", "cat", "dog")
    (root / "r.toml").write_text("[batch_size]\nmany = 3\n")
    return ["data", *CHOICES, "--recipe", "r.toml"]


def word_for_a_flag(root: Path) -> list[str]:
    classes(root / "data", "cat", "dog")
    (root / "r.toml").write_text('test_flip = "no"\n')
    return ["data", *CHOICES, "--recipe", "r.toml"]


def number_for_a_table(root: Path) -> list[str]:
    classes(root / "data", "cat", "dog")
    (root / "r.toml").write_text("augment = 3\n")
    return ["data", *CHOICES, "--recipe", "r.toml"]


def word_in_augment(root: Path) -> list[str]:
    classes(root / "data", "cat", "dog")
    (root / "r.toml").write_text('[augment]\ncrop = "large"\n')
    return ["data", *CHOICES, "--recipe", "r.toml"]


def no_toml(root: Path) -> list[str]:
    classes(root / "data", "cat", "dog")
    (root / "r.toml").write_text("lr 0.1\n")
    return ["data", *CHOICES, "--recipe", "r.toml"]


def bundle_of(root: Path) -> Bundle:
    recipe = make_recipe(root / "data", TINY, size=16)
    return Bundle.from_module(
        build(recipe.network), preprocess=recipe.preprocess, classes=("cat", "dog")
    )


def weights_of_another_network(root: Path) -> list[str]:
    classes(root / "data", "cat", "dog")
    bundle_of(root).save(root / "w.safetensors")
    return ["data", "--model", "resnet50", "--from", "w.safetensors"]


def weights_with_other_options(root: Path) -> list[str]:
    classes(root / "data", "cat", "dog")
    bundle_of(root).save(root / "w.safetensors")
    return ["data", "--depths", "2", "--from", "w.safetensors"]


def weights_cut_short(root: Path) -> list[str]:
    classes(root / "data", "cat", "dog")
    bundle_of(root).save(root / "w.safetensors")
    (root / "w.safetensors").write_bytes((root / "w.safetensors").read_bytes()[:-64])
    return ["data", "--from", "w.safetensors"]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (label_not_in_the_list, "t.csv gives images/5.png the label owl, which is not in classes"),
        (label_above_the_list, "has the label 1, and classes.txt has 1 names, from 0"),
        (empty_split, "val has no class folders; put images into it, or remove it"),
        (split_without_images, "data/val has no images; put some into it, or remove it"),
        (table_without_training_images, "no train"),
        (class_that_only_val_has, "val has the class folder(s) owl, which data/train lacks"),
        (batch_larger_than_the_data, "--batch-size is 64; it must be at most 12"),
        (shard_that_ends_early, "has 4,000 bytes, and index.json has"),
        (unknown_field, "a recipe has no field weight_decai; did you mean weight_decay?"),
        (unknown_field_of_augment, "[augment] has no field flipp; did you mean flip?"),
        (field_of_another_kind, "--lr is 'fast'; it must be a number"),
        (table_for_a_number, "--batch-size is a dict; it must be an integer from 1"),
        (word_for_a_flag, "--flip-tta is 'no'; it must be true or false"),
        (number_for_a_table, "r.toml is not a training recipe"),
        (word_in_augment, "r.toml is not a training recipe"),
        (no_toml, "r.toml: not a training recipe"),
        (weights_of_another_network, "--from determines the network"),
        (weights_with_other_options, "depths"),
        (weights_cut_short, "w.safetensors"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_before_the_first_step(
    case: Case,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = case(Path())
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", *arguments, "--out", "runs/one"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("resnetkit: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before, "nothing is left behind"


def test_a_checkpoint_of_another_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recipe that was edited after the run began."""
    monkeypatch.chdir(tmp_path)
    classes(Path("data"), "cat", "dog")
    recipe = make_recipe("data", TINY, size=16, epochs=3)

    class KilledError(Exception):
        pass

    def die(*_: object) -> None:
        raise KilledError

    from resnetkit.training.callbacks import Callback

    callback = Callback()
    monkeypatch.setattr(callback, "epoch", die)
    with pytest.raises(KilledError):
        run_recipe(recipe, "run", callback)
    text = Path("run/recipe.toml").read_text()
    edited = re.sub(r"(\nwidths = \[\s*)8\b", r"\g<1>16", text)
    assert edited != text
    Path("run/recipe.toml").write_text(edited)
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    assert main(["train", "--resume", "run"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "the state in run is of another network" in err
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before

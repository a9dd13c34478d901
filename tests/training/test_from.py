"""Training other weights further: what is kept, what is new, and that it can be interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

import resnetkit
from photographs import CLASSES, write_classes
from resnetkit.bundle.bundle import Bundle
from resnetkit.cli.main import main
from resnetkit.errors import InputError
from resnetkit.preprocess import Preprocess
from resnetkit.training.callbacks import Callback
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run import resume, run_recipe
from resnetkit.training.run_folder import START

SMALL = resnetkit.network(
    "resnet18", depths=(1, 1), widths=(8, 16), stem_widths=(8,), num_classes=7
)
USED_TO = Preprocess(
    size=32, resize_to=40, channels="BGR", mean=(9, 8, 7), std=(3, 2, 1), divisor=1
)


class Steps(Callback):
    """Interrupts after some batches, and keeps what it is told."""

    def __init__(self, left: int = 0) -> None:
        self.left, self.warnings = left, list[str]()

    def images(self, count: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("photographs") / "data", 8)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """As it is read from a file, whose arrays are in another order than a module's."""
    torch.manual_seed(1)
    module = resnetkit.build(SMALL)
    made = Bundle.from_module(module, preprocess=USED_TO, origin={"made_by": "hand"})
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    made.save(path)
    return resnetkit.load(path)


def test_the_body_is_kept_and_the_head_is_new(data: Path, start: Bundle, tmp_path: Path) -> None:
    recipe = make_recipe(data, pretrained=start, epochs=1, lr=1e-30, weight_decay=0.0)
    assert recipe.preprocess == USED_TO
    assert recipe.pretrained == start.network.name
    callback = Steps()
    result = run_recipe(recipe, tmp_path / "run", callback, pretrained=start)
    assert "a new classifier is trained: the weights are for 7 classes" in callback.warnings[0]
    last = resnetkit.load(tmp_path / "run" / "last.safetensors")
    assert last.classes == tuple(sorted(CLASSES))
    assert last.origin["start"] == {"made_by": "hand", "new_head": True}
    for name, value in start.arrays.items():
        if name.endswith("weight") and not name.startswith("fc"):
            assert torch.equal(last.arrays[name], value), name
    assert last.arrays["fc.weight"].shape == (len(CLASSES), 16)
    assert not (result.folder / START).exists()


def test_a_run_goes_on_with_another_number_of_classes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commonest job there is: from the best bundle of a run to other pictures."""
    monkeypatch.chdir(tmp_path)
    few = ["--size", "32", "--batch-size", "4", "--epochs", "1"]
    assert main(["train", str(data), "--model", "resnet20", *few, "--out", "first"]) == 0
    fewer = write_classes(tmp_path / "fewer", 8, classes=CLASSES[:2])
    again = ["train", str(fewer), "--from", "first/best.safetensors", "--epochs", "1"]
    assert main([*again, "--batch-size", "4", "--out", "second"]) == 0
    bundle = resnetkit.load("second/best.safetensors")
    assert bundle.classes == tuple(sorted(CLASSES[:2]))
    assert bundle.arrays["fc.weight"].dtype == torch.float32
    assert bundle.arrays["fc.weight"].shape[0] == 2


def test_a_head_of_the_same_classes_is_kept(data: Path, start: Bundle, tmp_path: Path) -> None:
    fitting = start.with_new_head(sorted(CLASSES), seed=3)
    callback = Steps()
    recipe = make_recipe(data, pretrained=fitting, epochs=1, lr=1e-30, weight_decay=0.0)
    run_recipe(recipe, tmp_path / "run", callback, pretrained=fitting)
    assert callback.warnings == []
    last = resnetkit.load(tmp_path / "run" / "last.safetensors")
    assert torch.equal(last.arrays["fc.weight"], fitting.arrays["fc.weight"])
    turned = start.with_new_head(sorted(CLASSES)[::-1])
    run_recipe(recipe, tmp_path / "other", callback, pretrained=turned)
    assert "the same classes in another order" in callback.warnings[0]


@pytest.mark.parametrize("batches", [1, 8])
def test_interrupted_it_goes_on_to_the_same_weights(
    batches: int, data: Path, start: Bundle, tmp_path: Path
) -> None:
    recipe = make_recipe(data, pretrained=start, epochs=2, batch_size=8)
    run_recipe(recipe, tmp_path / "whole", Steps(), pretrained=start)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path / "cut", Steps(batches), pretrained=start)
    resume(tmp_path / "cut", Steps())
    whole, cut = (
        safetensors.torch.load_file(tmp_path / name / "last.safetensors")
        for name in ("whole", "cut")
    )
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_half_precision_is_trained_in_float32(data: Path, start: Bundle, tmp_path: Path) -> None:
    arrays = {k: v.half() if v.is_floating_point() else v for k, v in start.arrays.items()}
    half = Bundle(network=start.network, arrays=arrays, preprocess=USED_TO, classes=start.classes)
    run_recipe(
        make_recipe(data, pretrained=half, epochs=1), tmp_path / "run", Steps(), pretrained=half
    )
    last = resnetkit.load(tmp_path / "run" / "last.safetensors")
    assert last.arrays["conv1.weight"].dtype == torch.float32


def test_size_and_grey_images(start: Bundle) -> None:
    recipe = make_recipe(pretrained=start, size=24)
    assert (recipe.preprocess.size, recipe.preprocess.resize_to) == (24, 30)
    assert recipe.network.options.in_chans == 3
    assert recipe.network.options.num_classes == 10


def test_the_network_is_that_of_the_weights(data: Path, start: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave model out"):
        make_recipe(data, "resnet18", pretrained=start)
    recipe = make_recipe(data, resnetkit.network("resnet20"), size=32, epochs=1)
    with pytest.raises(InputError, match="of another network"):
        run_recipe(recipe, tmp_path / "run", Steps(), pretrained=start)
    assert not (tmp_path / "run").exists()


def test_from_a_checkpoint_on_the_command_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "theirs.pth"
    torch.manual_seed(2)
    module = resnetkit.build(
        "resnet50", depths=(1, 1), widths=(8, 16), stem_widths=(8,), num_classes=9
    )
    torch.save(module.state_dict(), checkpoint)
    words = ["train", data, "--from", checkpoint, "--out", tmp_path / "run", "--size", 32]
    words += ["--epochs", 1]
    assert main([str(word) for word in [*words, "--strict"]]) == 2
    assert "does not determine" in capsys.readouterr().err
    words += ["--stride-on", "1x1"]
    assert main([str(word) for word in words]) == 0
    last = resnetkit.load(tmp_path / "run" / "last.safetensors")
    assert last.network.options.stride_on == "1x1"
    assert last.origin["start"]["file"] == "theirs.pth"
    assert main(["train", "--resume", str(tmp_path / "run"), "--from", "x"]) == 2
    assert "leave --from out" in capsys.readouterr().err
    assert main(["train", "digits", "--strict"]) == 2
    assert "--strict applies to the file of --from" in capsys.readouterr().err

"""The figures of an evaluation against ones worked out by hand, and which images are measured."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from resnetkit.data.datasets.dataset import Dataset, Sample
from resnetkit.data.datasets.splits import SplitRecord
from resnetkit.errors import InputError
from resnetkit.evaluation.evaluation import chosen, evaluate_engine, matched
from resnetkit.inference.engines.torch import Torch
from resnetkit.preprocess import Preprocess
from resnetkit.report.plots import save_confusion, save_curves
from resnetkit.training.epoch_log import EpochLog

GREY = Preprocess(size=2, channels="L", divisor=1, mean=(0.0,), std=(1.0,))


def named(classes: int) -> Torch:
    """A model that gives class ``g`` to grey value ``g``, with logit 5 more than all others."""

    def model(batch: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(batch[:, 0, 0, 0].long(), classes).float() * 5

    return Torch(model, GREY)


def example(label: int, grey: int, name: str = "x") -> Sample:
    return Sample(name=name, label=label, image=np.full((2, 2), grey, dtype=np.uint8))


def test_figures_by_hand() -> None:
    pairs = [(0, 0), (0, 0), (0, 1), (1, 1), (1, 0), (2, 1)]
    examples = [example(label, grey) for label, grey in pairs]
    found = evaluate_engine(named(4), GREY, ("a", "b", "c", "d"), examples, batch_size=4)
    assert found.images == 6
    assert found.accuracy == 3 / 6
    assert found.top5 is None
    assert found.names == ("a", "b", "c"), "d has no images and was never predicted"
    assert found.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]
    a, b, c = found.classes
    assert (a.precision, a.recall, a.support) == (2 / 3, 2 / 3, 3)
    assert (b.precision, b.recall) == (1 / 3, 1 / 2)
    assert (c.precision, c.recall, c.support) == (None, 0.0, 1)
    right, wrong = -math.log(math.e**5 / (math.e**5 + 3)), -math.log(1 / (math.e**5 + 3))
    assert found.loss == pytest.approx((3 * right + 3 * wrong) / 6)


def test_top5_where_there_are_more_than_five_classes() -> None:
    names = tuple("abcdefg")
    found = evaluate_engine(named(7), GREY, names, [example(0, 1), example(6, 1), example(2, 2)])
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.top5 is not None
    assert 1 / 3 <= found.top5 <= 1


def test_unreadable_images_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no")
    broken = Sample(name="broken", label=0, image=tmp_path / "broken.jpg")
    found = evaluate_engine(named(2), GREY, ("a", "b"), [broken, example(1, 1)])
    assert (found.images, found.accuracy) == (1, 1.0)
    assert [name for name, _ in found.problems] == [str(tmp_path / "broken.jpg")]
    with pytest.raises(InputError, match="none of the 1 images"):
        evaluate_engine(named(2), GREY, ("a", "b"), [broken])


def test_classes_are_matched_by_name() -> None:
    source = Dataset(name="data", classes=("bee", "cat"), flat=(example(0, 0), example(1, 1)),
                    parts={})  # fmt: skip
    assert [e.label for e in matched(source, source.flat, ("ant", "bee", "cat"))] == [1, 2]
    with pytest.raises(InputError, match="does not know: bee, cat; it knows dog"):
        matched(source, source.flat, ("dog",))


def test_which_part_is_measured() -> None:
    one, two, three = (example(0, grey, name) for grey, name in enumerate("abc"))
    divided = Dataset(name="data", classes=("x",), parts={"train": (one,), "validation": (two,)})
    assert chosen(divided, None, None) == ("validation", (two,))
    assert chosen(divided, "train", None) == ("train", (one,))
    assert chosen(divided, "all", None)[1] == (one, two)
    with pytest.raises(InputError, match="no test images: it has train, validation"):
        chosen(divided, "test", None)

    flat = Dataset(name="data", classes=("x",), flat=(one, two, three), parts={})
    assert chosen(flat, None, None) == ("all", flat.flat)
    with pytest.raises(InputError, match="no validation images"):
        chosen(flat, "validation", None)
    names = {part: {e.name: e.digest()} for part, e in
             {"train": one, "validation": two, "test": three}.items()}  # fmt: skip
    record = SplitRecord(data="data", classes=("x",), parts=names)
    assert chosen(flat, None, record) == ("test", (three,))
    assert chosen(flat, "validation", record) == ("validation", (two,))
    other = Dataset(name="data", classes=("x",), flat=(example(0, 9, "c"),), parts={})
    assert chosen(other, None, record)[0] == "all", "the same name with other pixels"


@pytest.mark.parametrize("classes", [2, 12, 130])
def test_plots(classes: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    examples = [
        example(label, int(draw.integers(classes)) if draw.random() < 0.3 else label)
        for label in draw.integers(classes, size=400).tolist()
    ]
    names = tuple(f"class number {n}" for n in range(classes))
    found = evaluate_engine(named(classes), GREY, names, examples)
    save_confusion(found, tmp_path / "confusion.png", "a test")
    rows = [EpochLog(epoch=n, lr=0.1 / n, loss=1 / n, accuracy=1 - 1 / n, validation_loss=1.5 / n,
                validation_accuracy=1 - 1 / n, seconds=1.0, rate=9.0, best=True)
            for n in range(1, classes)]  # fmt: skip
    save_curves(rows, tmp_path / "curves.png")
    for name in ("confusion.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")

"""Ranked classes: order, kinds of input, bounded memory, and images that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor

from resnetkit.data.decoding.decode import UnreadableImageError
from resnetkit.data.listing import expanded, listed
from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import EngineOptions
from resnetkit.inference.engines.torch import Torch
from resnetkit.inference.prediction import NOT_FINITE, predict, ranked, stream
from resnetkit.preprocess import Preprocess

GREY = Preprocess(size=2, channels="L", divisor=1, mean=(0.0,), std=(1.0,))
CLASSES = ("dark", "middle", "bright")


def brightness(batch: Tensor) -> Tensor:
    """Logits by the distance of the mean to 0, 128 and 255."""
    means = batch.mean((1, 2, 3))
    return -(means[:, None] - torch.tensor([0.0, 128.0, 255.0])).abs() / 50


nearest = Torch(brightness, GREY)


def grey(value: int) -> np.ndarray:
    return np.full((4, 4), value, dtype=np.uint8)


def test_ranked_with_probabilities() -> None:
    (prediction,) = predict(nearest, GREY, CLASSES, grey(250), topk=2)
    assert [guess.label for guess in prediction.scores] == ["bright", "middle"]
    expected = torch.tensor([-250.0, -122.0, -5.0]).div(50).softmax(0)
    assert prediction.probability == pytest.approx(float(expected[2]), rel=1e-5)
    (all_of_them,) = predict(nearest, GREY, CLASSES, grey(250), topk=99)
    assert sum(guess.probability for guess in all_of_them.scores) == pytest.approx(1)


def test_of_equal_classes_the_first_comes_first() -> None:
    names = tuple("abcdefgh")
    for logits, wanted in (
        ([1] * 8, "abc"),
        ([0, 2, 1, 1, 2, 1, 1, 0], "bec"),
        ([0] * 7 + [1], "hab"),
    ):
        row = np.array(logits, np.float32)
        assert "".join(guess.label for guess in ranked(row, names, 3)) == wanted
        assert ranked(row, names, 1)[0].label == names[int(row.argmax())]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_answers_that_are_not_finite_are_no_classes(bad: float) -> None:
    def broken(batch: Tensor) -> Tensor:
        rows = brightness(batch)
        rows[batch.mean((1, 2, 3)) > 200, 1] = bad
        return rows

    found = list(stream(Torch(broken, GREY), GREY, CLASSES, [grey(0), grey(250), grey(2)]))
    assert [p.problem or p.label for p in found] == ["dark", NOT_FINITE, "dark"]
    embedded = list(
        stream(
            Torch(broken, GREY, options=EngineOptions(output="embeddings")), GREY, (), [grey(250)]
        )
    )
    assert embedded[0].problem == NOT_FINITE


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_order_is_kept_whatever_the_batch(batch_size: int, tmp_path: Path) -> None:
    PIL.Image.fromarray(grey(255)).save(tmp_path / "bright.png")
    (tmp_path / "broken.png").write_bytes(b"no")
    images = [grey(0), tmp_path / "broken.png", tmp_path / "bright.png", grey(130), grey(1)]
    found = list(stream(nearest, GREY, CLASSES, images, batch_size=batch_size))
    assert [p.problem or p.label for p in found] == [
        "dark",
        "not an image, or of an unsupported format",
        "bright",
        "middle",
        "dark",
    ]
    assert found[1].name == str(tmp_path / "broken.png")
    with pytest.raises(UnreadableImageError, match=r"broken\.png"):
        predict(nearest, GREY, CLASSES, images)


def test_one_image_or_many() -> None:
    one = torch.full((1, 4, 4), 255, dtype=torch.uint8)
    many = torch.stack([one, one // 2, one * 0])
    picture = PIL.Image.fromarray(grey(255))
    for image in (one, one.numpy()[0], picture):
        assert [p.label for p in predict(nearest, GREY, CLASSES, image)] == ["bright"]
    labels = [p.label for p in predict(nearest, GREY, CLASSES, many)]
    assert labels == ["bright", "middle", "dark"]
    assert predict(nearest, GREY, CLASSES, []) == []


def test_images_are_read_only_a_few_batches_ahead() -> None:
    given = 0

    def endless() -> object:
        nonlocal given
        while True:
            given += 1
            yield grey(given % 256)

    predictions = stream(nearest, GREY, CLASSES, endless(), batch_size=4)
    for _ in range(10):
        next(predictions)
    predictions.close()
    assert given < 100


@pytest.mark.parametrize("choice", [{"topk": 0}, {"batch_size": 0}])
def test_numbers_below_one(choice: dict[str, int]) -> None:
    with pytest.raises(InputError, match=">= 1"):
        list(stream(nearest, GREY, CLASSES, [grey(1)], **choice))


def test_folders_are_searched_in_order(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/a/1.jpg", "a.png", ".hidden/3.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    inside = [str(tmp_path / name) for name in ("a.png", "b/2.png", "b/a/1.jpg")]
    assert [one.name for one in listed([str(tmp_path)])] == inside
    given = expanded([str(tmp_path / "notes.txt"), str(tmp_path / "b")])
    assert [one.name for one in listed(given)] == [str(tmp_path / "notes.txt"), *inside[1:]]
    with pytest.raises(InputError, match="does not exist"):
        expanded([str(tmp_path / "c")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no images"):
        expanded([str(tmp_path / "empty")])

"""What a feed makes depends on seed, epoch and image only: not on threads, batches or restarts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from photographs import write_classes
from resnetkit.data.datasets.dataset import Sample
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.preprocess import Channels, Preprocess
from resnetkit.training.data.data_loader import DataLoader, LoaderOptions
from resnetkit.training.data.image_cache import ImageCache
from resnetkit.training.data.rng import Drawn, mixed
from resnetkit.training.data.transforms import ERASING_DRAWS, Lighting, erased, moved
from resnetkit.training.recipe.augmentation import Augment
from resnetkit.training.recipe_defaults import make_recipe

PREPROCESS = Preprocess(size=12, resize_to=14)
SHAPES = [(20, 31), (13, 12), (64, 40), (12, 12), (9, 15), (30, 30), (17, 50), (40, 9)]
EXAMPLES = [
    Sample(
        name=f"e{number}",
        label=number % 3,
        image=np.random.default_rng(number).integers(0, 256, (*shape, 3), dtype=np.uint8),
    )
    for number, shape in enumerate(SHAPES)
]
augments = st.builds(
    Augment,
    flip=st.booleans(),
    crop=st.sampled_from([1.0, 0.5, 0.1]),
    shift=st.integers(0, 3),
    policy=st.sampled_from(["none", "randaugment", "trivialaugment"]),
    erase=st.sampled_from([0.0, 1.0]),
    lighting=st.sampled_from([0.0, 0.3]),
)


def seen(loader: DataLoader, epoch: int, first: int = 0) -> dict[str, bytes]:
    found = {}
    for batch in loader.batches(epoch, first=first):
        assert batch.labels.tolist() == [example.label for example in batch.examples]
        for example, pixels in zip(batch.examples, batch.inputs, strict=True):
            assert example.name not in found
            found[example.name] = pixels.numpy().tobytes()
    return found


@pytest.mark.parametrize(("size", "batches"), [(1, [1] * 8), (3, [3, 3, 2]), (7, [8])])
def test_batches_of_one_are_made_only_where_they_are_asked_for(
    size: int, batches: list[int]
) -> None:
    loader = DataLoader(EXAMPLES, PREPROCESS, LoaderOptions(batch_size=size, augment=Augment()))
    assert [len(batch) for batch in loader.batches()] == batches
    assert len(loader) == len(batches)


@settings(max_examples=10)
@given(augments, st.integers(0, 2**31), st.integers(0, 50), st.integers(2, 7), st.integers(1, 8))
def test_pixels_depend_on_seed_epoch_and_image(
    augment: Augment, seed: int, epoch: int, batch_size: int, threads: int
) -> None:
    def loader(size: int) -> DataLoader:
        return DataLoader(
            EXAMPLES, PREPROCESS, LoaderOptions(batch_size=size, augment=augment, seed=seed)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resnetkit.data.prefetch.readers", lambda: 1)
        one = loader(3)
        whole = seen(one, epoch)
        order = list(whole)
        assert sorted(order) == [example.name for example in EXAMPLES]
        patch.setattr("resnetkit.data.prefetch.readers", lambda: threads)
        other = loader(batch_size)
        seen(other, epoch + 1)
        again = seen(other, epoch)
        assert (again, list(again)) == (whole, order)
        for first in (1, len(one)):
            rest = seen(loader(3), epoch, first)
            assert list(rest) == order[3 * first :]
            assert all(whole[name] == pixels for name, pixels in rest.items())


def test_copies_of_an_image_lie_together_and_differ() -> None:
    augment = Augment(crop=0.2, shortest=())
    loader = DataLoader(
        EXAMPLES, PREPROCESS, LoaderOptions(batch_size=4, augment=augment, repeats=3)
    )
    batches = list(loader.batches(2))
    assert [len(batch) for batch in batches] == [4, 4]
    names = [example.name for batch in batches for example in batch.examples]
    assert [len(set(names[n : n + 3])) for n in (0, 3)] == [1, 1]
    assert len(set(names)) == 3
    pixels = torch.cat([batch.inputs for batch in batches])
    assert len({image.numpy().tobytes() for image in pixels[:3]}) > 1
    rest = torch.cat([batch.inputs for batch in loader.batches(2, first=1)])
    assert torch.equal(rest, pixels[4:])


@pytest.mark.parametrize(
    "augment", [Augment(crop=0.5), Augment(flip=True), Augment(shortest=(1.2, 2.0), erase=0.5)]
)
def test_the_side_may_change_by_the_epoch(augment: Augment) -> None:
    loader = DataLoader(
        EXAMPLES,
        PREPROCESS,
        LoaderOptions(batch_size=4, augment=augment, size_in=lambda epoch: 8 + 4 * epoch),
    )
    for epoch in (0, 1, 3):
        shapes = {tuple(batch.inputs.shape[1:]) for batch in loader.batches(epoch)}
        assert shapes == {(3, 8 + 4 * epoch, 8 + 4 * epoch)}


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_erased_pixels_have_the_mean_colour(channels: Channels) -> None:
    preprocess = replace(PREPROCESS, channels=channels)
    loader = DataLoader(
        EXAMPLES, preprocess, LoaderOptions(batch_size=8, augment=Augment(erase=1.0))
    )
    plain = DataLoader(EXAMPLES, preprocess, LoaderOptions(batch_size=8, augment=Augment()))
    (batch,), (whole,) = list(loader.batches()), list(plain.batches())
    differs = (batch.inputs != whole.inputs).any(1)
    assert differs.flatten(1).any(1).all()
    # Grey level 0 of the normalised image is the mean, to half a level of 255.
    pixels = batch.inputs.movedim(1, -1)[differs]
    assert (pixels.abs() <= 0.51 / 255 / min(preprocess.std)).all()


@given(st.integers(0, 2**31), st.sampled_from([(28, 28), (12, 20)]))
def test_erasing_is_a_rectangle_of_the_papers_size(seed: int, shape: tuple[int, int]) -> None:
    draws = torch.rand(64, ERASING_DRAWS, generator=torch.Generator().manual_seed(seed))
    pixels = torch.full((64, 3, *shape), 255, dtype=torch.uint8)
    result = erased(pixels, Augment(erase=0.5), PREPROCESS, draws)
    gone = (result != 255).any(1)
    for image, share in zip(gone, draws[:, 0], strict=True):
        if share >= 0.5:
            assert not image.any()
            continue
        rows, columns = image.any(1).sum(), image.any(0).sum()
        assert image.sum() == rows * columns > 0
        # Each side is rounded to whole pixels.
        assert (rows - 0.51) * (columns - 0.51) <= 0.33 * image.numel()
        assert (rows + 0.51) * (columns + 0.51) >= 0.02 * image.numel()


def test_erasing_is_as_often_and_as_large_as_torchvisions() -> None:
    draws = torch.rand(4000, ERASING_DRAWS, generator=torch.Generator().manual_seed(1))
    white = torch.full((4000, 1, 28, 28), 255, dtype=torch.uint8)
    preprocess = Preprocess(size=28, channels="L", mean=(0.0,), std=(1.0,))
    ours = (erased(white, Augment(erase=0.25), preprocess, draws) == 0).float().mean((1, 2, 3))
    transform = v2.RandomErasing(0.25, value=[0.0])
    torch.manual_seed(2)
    theirs = torch.stack([(transform(image) == 0).float().mean() for image in white])
    assert (ours > 0).float().mean() == pytest.approx(0.25, abs=0.02)
    # The mean of 1,000 areas has a standard error of 0.003.
    assert ours[ours > 0].mean() == pytest.approx(float(theirs[theirs > 0].mean()), abs=0.015)
    places = (erased(white, Augment(erase=1.0), preprocess, draws) == 0).float().mean(0)[0]
    assert torch.allclose(places, places.flip(0), atol=0.05)
    assert torch.allclose(places, places.flip(1), atol=0.05)


def test_arrays_are_taken_as_decoding_would_make_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    for channels, shape in (("L", (12, 12)), ("RGB", (12, 12, 3)), ("BGR", (12, 12, 3))):
        count = len(channels)
        preprocess = replace(
            PREPROCESS, channels=channels, resize_to=12, mean=(0.4,) * count, std=(0.2,) * count
        )
        shapes = [shape, shape, (12, 12), shape, (12, 12, 3), (20, 20), shape]
        examples = [
            Sample(name=str(n), label=0, image=rng.integers(0, 256, given, dtype=np.uint8))
            for n, given in enumerate(shapes)
        ]
        for augment in (None, Augment(shift=1, flip=True), Augment(crop=0.5)):
            fast = seen(
                DataLoader(examples, preprocess, LoaderOptions(batch_size=3, augment=augment)), 1
            )
            with monkeypatch.context() as patch:
                patch.setattr(ImageCache, "put_arrays", lambda *_: None)
                slow = seen(
                    DataLoader(examples, preprocess, LoaderOptions(batch_size=3, augment=augment)),
                    1,
                )
            assert fast == slow
    assert ImageCache(7, 7 * 432, (3, 12, 12)).get(0) is None


def test_lighting_is_a_shift_of_each_colour() -> None:
    picture = torch.full((3, 5, 5), 128, dtype=torch.uint8)
    with Drawn(1):
        result = Lighting(0.5, 3)(picture)
    assert all(len(result[channel].unique()) == 1 for channel in range(3))
    assert not torch.equal(result, picture)
    assert torch.equal(Lighting(0.0, 3)(picture), picture)


def test_torchs_own_generator_is_untouched() -> None:
    augment = Augment(flip=True, crop=0.3, shift=2)
    before = torch.get_rng_state()
    seen(DataLoader(EXAMPLES, PREPROCESS, LoaderOptions(batch_size=2, augment=augment)), 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_epochs_and_seeds_differ() -> None:
    def loader(seed: int) -> DataLoader:
        return DataLoader(
            EXAMPLES, PREPROCESS, LoaderOptions(batch_size=2, augment=Augment(crop=0.3), seed=seed)
        )

    first = seen(loader(1), 0)
    for other in (seen(loader(1), 1), seen(loader(2), 0)):
        # An elongated image may get its middle every time.
        assert sum(other[name] != first[name] for name in first) >= 6
    assert len({tuple(seen(loader(1), epoch)) for epoch in range(6)}) > 3, "the order is the same"


def test_files_are_read_alike_from_disk_and_memory(tmp_path: Path) -> None:
    data = write_classes(tmp_path, 5, classes=("brick", "coffee"))
    recipe = make_recipe(data, "resnet20", size=16)
    examples = open_dataset(data).examples

    def loader(memory: int) -> DataLoader:
        augment = recipe.augment
        return DataLoader(
            examples, recipe.preprocess, LoaderOptions(batch_size=3, augment=augment, memory=memory)
        )

    kept = loader(1 << 30)
    first = seen(kept, 0)
    assert seen(kept, 0) == first
    for memory in (0, 50_000):
        partly = loader(memory)
        assert seen(partly, 0) == first
        assert seen(partly, 0) == first
    # 10 images in batches of 3: the last one goes along with the batch before it.
    assert [len(batch) for batch in kept.batches(0)] == [3, 3, 4]
    assert len(kept) == 3


@given(st.integers(1, 3), st.integers(0, 2**31))
def test_moving_is_cropping_from_a_repeated_border(reach: int, seed: int) -> None:
    draws = torch.rand(5, 3, generator=torch.Generator().manual_seed(seed))
    pixels = torch.arange(5 * 2 * 36, dtype=torch.int64).reshape(5, 2, 6, 6)
    result = moved(pixels, Augment(shift=reach, flip=True), draws)
    wide = v2.functional.pad(pixels.float(), reach, padding_mode="edge").long()
    for image, (across, down, flip) in enumerate(draws.tolist()):
        left, top = int(across * (2 * reach + 1)), int(down * (2 * reach + 1))
        # The first draw moves along the rows' axis, the second along the columns'.
        wanted = wide[image, :, left : left + 6, top : top + 6]
        assert torch.equal(result[image], wanted.flip(-1) if flip < 0.5 else wanted)


def test_drawn_reaches_what_torchvision_draws_with() -> None:
    picture = torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8)
    for transform in (
        v2.RandomResizedCrop(9),
        v2.RandAugment(),
        v2.TrivialAugmentWide(),
        v2.RandomErasing(p=1.0),
        v2.RandomShortestSize([9, 20]),
        v2.RandomCrop(9),
        v2.RandomHorizontalFlip(),
    ):
        results = []
        for state in (1, 2):
            torch.manual_seed(state)
            for number in range(4):
                with Drawn(3, number):
                    results.append(transform(picture))
        assert all(torch.equal(results[n], results[n + 4]) for n in range(4)), transform


def test_seeds_are_mixed() -> None:
    assert len({mixed(a, b) for a in range(30) for b in range(30)}) == 900
    assert mixed(1, 2) != mixed(2, 1)

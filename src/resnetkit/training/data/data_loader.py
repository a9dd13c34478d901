"""Batches of decoded and augmented images, reproducible by seed and epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from resnetkit.data.datasets.dataset import Sample, labels_of
from resnetkit.data.decoding.decode import UnreadableImageError, cut, upright
from resnetkit.data.decoding.tensors import normalise, to_tensor
from resnetkit.data.prefetch import early, ordered
from resnetkit.preprocess import Preprocess
from resnetkit.training.data.device_copies import DeviceCopies
from resnetkit.training.data.epoch_order import EpochOrder, Place
from resnetkit.training.data.image_cache import ImageCache
from resnetkit.training.data.rng import Drawn, generator_of
from resnetkit.training.data.transforms import DRAWS, ERASING_DRAWS, Change, change, erased, moved
from resnetkit.training.recipe.augmentation import Augment

_Image = Tensor | UnreadableImageError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """A batch on the loader's device: float32 ``(N, C, size, size)``, labels ``(N,)``, and their
    examples."""

    inputs: Tensor
    labels: Tensor
    examples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.examples)


#: A batch on its way to the device, and the point at which it is there.
_Sent = tuple[Batch, torch.cuda.Event | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderOptions:
    """Options of a data loader.

    With ``augment``, images are shuffled and augmented; without, they are in order and only
    preprocessed. The order depends on ``seed`` and the epoch, an augmentation on ``seed``, the
    epoch, and the indices of image and copy, not on threads, the position in a batch, or earlier
    reads. With ``repeats``, an epoch of the same length has fewer images, each repeated in sequence
    (Berman et al. 2019, arXiv:1902.05509). ``size_in`` gives the image size of an epoch.

    Up to ``memory`` bytes of decoded images are cached; if all have the same shape, a batch is
    copied from the cache at once.

    Of shards that do not fit the cache each of ``machines`` needs only a part, as ``EpochOrder``
    says.

    ``device`` gets each batch while the one before is trained on. Pixels are copied as bytes and
    normalised there.
    """

    batch_size: int
    augment: Augment | None = None
    seed: int = 0
    repeats: int = 1
    size_in: Callable[[int], int] | None = None
    memory: int = 1 << 30
    device: str = "cpu"
    machines: int = 1


class DataLoader:
    """Batches of examples, each prepared while the one before is trained on.

    ``unreadable`` is called with the name of an unreadable image and the reason; the image is
    skipped, so a batch may be empty. Without it ``UnreadableImageError`` is raised. ``share``
    selects this process's part of each batch.
    """

    def __init__(
        self,
        examples: Sequence[Sample],
        preprocess: Preprocess,
        options: LoaderOptions,
        *,
        unreadable: Callable[[str, str], None] | None = None,
        share: Callable[[Sequence[int]], Sequence[int]] = lambda batch: batch,
    ) -> None:
        augment = options.augment
        self.examples = examples
        self.preprocess = preprocess
        self.batch_size = options.batch_size
        self.augment = augment
        self.seed = options.seed
        self._unreadable = unreadable
        self._repeats, self._machines, self._share = options.repeats, options.machines, share
        self._size_in = options.size_in or (lambda _: preprocess.size)
        self._copies = DeviceCopies(options.device)
        self._labels = torch.from_numpy(labels_of(examples))
        alike = (preprocess.channel_count, preprocess.size, preprocess.size)
        # With random crops, whole pictures of any shape are cached.
        self._kept = ImageCache(
            len(examples), options.memory, None if augment and augment.crops else alike
        )
        if not (augment and augment.crops):
            self._kept.put_arrays(examples, preprocess)

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self._batches(len(self.examples)))

    def batches(self, epoch: int = 0, *, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, starting at ``first``."""
        for (batch, mark), problems in early(self._made(epoch, first)):
            for example, error in problems:
                self._report(example, error)
            self._copies.arrived(mark, batch.inputs, batch.labels)
            yield batch

    def _made(
        self, epoch: int, first: int
    ) -> Generator[tuple[_Sent, list[tuple[Sample, UnreadableImageError]]]]:
        """The batches, each with its unreadable images."""
        size = self._size_in(epoch)
        alter = None if self.augment is None else change(self.augment, self.preprocess, size)
        seed = None if self.augment is None else (self.seed, epoch)
        order = EpochOrder(
            self.examples,
            seed,
            self._repeats,
            machines=self._machines,
            batch_size=self.batch_size,
        )
        batches = self._batches(len(self.examples))[first:]
        draws = [self._draws(epoch, copy) for copy in range(self._repeats)]
        mine = (order.places(self._share(batch)) for batch in batches)
        if alter is None and all(self._kept.whole([n for n, _ in members]) for members in mine):
            for batch in batches:
                members = order.places(self._share(batch))
                pixels = self._kept.batch([number for number, _ in members])
                yield self._batch(members, pixels, draws, size), []
            return
        reading = order.reading(batches, self._share)
        images = ordered(lambda place: self._image(epoch, place, alter), reading)
        for batch in batches:
            members = order.places(self._share(batch))
            read = [(place, next(images)) for place in members]
            good = {place: image for place, image in read if isinstance(image, Tensor)}
            problems = [
                (self.examples[number], image)
                for (number, _), image in read
                if not isinstance(image, Tensor)
            ]
            pixels = torch.stack(list(good.values())) if good else self._nothing(size)
            yield self._batch(list(good), pixels, draws, size), problems

    def _draws(self, epoch: int, copy: int) -> Tensor:
        """The random numbers of each image for augmentations of whole batches."""
        count = len(self.examples)
        drawn = torch.rand(count, DRAWS, generator=generator_of(self.seed, epoch, 0, copy))
        if self.augment is None or not self.augment.erase:
            return drawn
        generator = generator_of(self.seed, epoch, 2, copy)
        return torch.cat([drawn, torch.rand(count, ERASING_DRAWS, generator=generator)], 1)

    def _nothing(self, size: int) -> Tensor:
        return torch.empty(0, self.preprocess.channel_count, size, size, dtype=torch.uint8)

    def _batch(
        self, places: Sequence[Place], pixels: Tensor, draws: Sequence[Tensor], size: int
    ) -> _Sent:
        numbers = torch.tensor([number for number, _ in places], dtype=torch.int64)
        if pixels.shape[-1] != size:
            pixels = functional.resize(pixels, [size, size], antialias=True)
        if self.augment is not None and places:
            copies = torch.tensor([copy for _, copy in places])
            by = torch.stack([drawn[numbers] for drawn in draws])[copies, torch.arange(len(copies))]
            pixels = moved(pixels, self.augment, by)
            if self.augment.erase:
                pixels = erased(pixels, self.augment, self.preprocess, by[:, DRAWS:])
        with self._copies.queued():
            batch = Batch(
                inputs=normalise(self._copies.copied(pixels), self.preprocess),
                labels=self._copies.copied(self._labels[numbers]),
                examples=tuple(self.examples[number] for number, _ in places),
            )
            return batch, self._copies.mark()

    def _report(self, example: Sample, error: UnreadableImageError) -> None:
        if self._unreadable is None:
            raise UnreadableImageError(example.name, error.reason)
        self._unreadable(example.name, error.reason)

    def _image(self, epoch: int, place: Place, alter: Change | None) -> _Image:
        """An image in ``epoch``, uint8 ``(C, size, size)``, before ``moved``."""
        number, copy = place
        picture = self._kept.get(number)
        if picture is None:
            try:
                picture = self._read(number)
            except UnreadableImageError as error:
                return error
            except OSError as error:
                name = self.examples[number].name
                return UnreadableImageError(name, error.strerror or str(error))
            self._kept.put(number, picture)
        if alter is None:
            return picture
        with Drawn(self.seed, epoch, number, 1, copy):
            return alter(picture)

    def _batches(self, count: int) -> list[range]:
        """The positions of each batch in the order."""
        size = self.batch_size
        found = [range(start, min(start + size, count)) for start in range(0, count, size)]
        if self.augment is not None and size > 1 and len(found) > 1 and len(found[-1]) == 1:
            # A batch norm learns little from one image, or nothing if its map is 1x1.
            found[-2:] = [range(found[-2].start, count)]
        return found

    def _read(self, number: int) -> Tensor:
        # Pillow uses libjpeg-turbo; torchvision's decoders give the same pixels, but are deprecated
        # since 0.29.
        picture = upright(self.examples[number].image, self.preprocess.channels)
        if self.augment is None or not self.augment.crops:
            return to_tensor(cut(picture, self.preprocess))
        side = math.ceil(self.augment.largest * self.preprocess.size)
        return _smaller(functional.pil_to_tensor(picture), side)


def _smaller(picture: Tensor, side: int) -> Tensor:
    """Shrink large pictures to a shorter side of ``side`` pixels: no crop needs more."""
    if min(picture.shape[-2:]) <= side:
        return picture
    resized: Tensor = functional.resize(picture, [side], antialias=True)
    return resized

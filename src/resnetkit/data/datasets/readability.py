"""Checks which images can be read, before training if that is fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnetkit.data.datasets.dataset import Sample
from resnetkit.data.decoding.decode import UnreadableImageError, pixels_of
from resnetkit.data.prefetch import ordered
from resnetkit.errors import InputError
from resnetkit.files import write_text
from resnetkit.preprocess import Preprocess

#: Up to this many encoded images are decoded before training; with more, only sizes are read.
DECODED = 20_000
#: The file in a run folder that lists unreadable images.
FILE = "bad-images.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The digests of readable images, and the problems of the others, by name."""

    digests: dict[str, str]
    problems: dict[str, str]


def check(
    examples: Sequence[Sample],
    preprocess: Preprocess,
    share: Callable[[Sequence[Sample]], Sequence[Sample]] = lambda examples: examples,
) -> Checked:
    """Read every image of this process's ``share`` once.

    Up to ``DECODED`` encoded images are decoded and digested; with more, which would be slow, the
    size replaces the digest, and undecodable images are found in training.
    """
    encoded = sum(example.encoded for example in examples)
    thorough = encoded <= DECODED

    def digest(example: Sample) -> str | UnreadableImageError:
        try:
            if not example.encoded:
                return example.digest()
            if not thorough:
                return example.brief()
            pixels_of(example.image, preprocess)
            return example.digest()
        except UnreadableImageError as error:
            return error
        except OSError as error:
            return UnreadableImageError(example.name, error.strerror or str(error))

    examples = share(examples)
    digests: dict[str, str] = {}
    problems: dict[str, str] = {}
    # Arrays are in memory; passing each to a thread would be slower than its digest.
    results = ordered(digest, examples) if encoded else map(digest, examples)
    for example, found in zip(examples, results, strict=True):
        if isinstance(found, UnreadableImageError):
            problems[example.name] = found.reason
        else:
            digests[example.name] = found
    return Checked(digests=digests, problems=problems)


class BadImages:
    """The unreadable ones of ``total`` images; a ratio above ``share`` is an error."""

    def __init__(self, total: int, share: float) -> None:
        self.total, self.share = total, share
        self.problems: dict[str, str] = {}

    def add(self, name: str, reason: str) -> bool:
        """Record an unreadable image; return whether it is new."""
        new = name not in self.problems
        self.problems[name] = reason
        return new

    def save(self, folder: Path) -> None:
        """Write the names and reasons into a run folder, if there are any."""
        if self.problems:
            lines = (f"{name}: {reason}\n" for name, reason in sorted(self.problems.items()))
            write_text(folder / FILE, "".join(lines))

    def check(self) -> None:
        """Raise ``ValueError`` if they are too many."""
        count = len(self.problems)
        if count > self.share * self.total:
            name = min(self.problems)
            raise InputError(
                f"{count} of {self.total} images cannot be read, e.g. {name}: "
                f"{self.problems[name]}; that is more than max_bad {self.share:g}: repair or "
                "remove them, or increase the limit",
                field="max_bad",
            )

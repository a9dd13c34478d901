"""Damaged files of every kind: the right arrays or an InputError, soon, and nothing else."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
import samples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnetkit.errors import InputError
from resnetkit.formats.opening import open_container

#: The library of these runs in a process of its own, which takes a fifth of a second.
SLOW = ("keras", "weights.h5", "h5")
QUICK = tuple(kind for kind in samples.WRITERS if kind not in SLOW)


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    found = {}
    for kind, write in samples.WRITERS.items():
        path = tmp_path_factory.mktemp("whole") / "weights"
        write(path)
        found[kind] = path.read_bytes()
    return found


def outcome(path: Path, content: bytes) -> bool:
    """Whether the file opens and all its arrays can be read; only InputError may be raised."""
    path.write_bytes(content)
    begin = time.perf_counter()
    try:
        container = open_container(path)
        for name, info in container.arrays.items():
            array = container.read(name)
            assert (array.shape, array.dtype.name) == (info.shape, info.dtype)
    except InputError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
        return False
    finally:
        assert time.perf_counter() - begin < 10
    return True


@pytest.mark.parametrize("kind", samples.WRITERS)
def test_truncated(kind: str, contents: dict[str, bytes], tmp_path: Path) -> None:
    whole = contents[kind]
    count = 5 if kind in SLOW else 150
    lengths = {0, 1, 7, 8, 9, len(whole) - 1, *(len(whole) * i // count for i in range(count))}
    if kind in SLOW:
        lengths = {9, len(whole) // 3, len(whole) - 1}
    for length in sorted(lengths):
        assert not outcome(tmp_path / "cut", whole[:length]), length


@pytest.mark.parametrize("kind", SLOW)
def test_flipped_bytes_of_hdf5(kind: str, contents: dict[str, bytes], tmp_path: Path) -> None:
    draw = random.Random(kind)
    for _ in range(8):
        content = bytearray(contents[kind])
        for _ in range(draw.choice((1, 4, 30))):
            content[draw.randrange(min(4000, len(content)))] = draw.randrange(256)
        outcome(tmp_path / "flipped", bytes(content))


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
@pytest.mark.parametrize("kind", QUICK)
def test_flipped_bytes(
    kind: str, contents: dict[str, bytes], tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(contents[kind])
    last = len(content) - 1
    # Descriptions stand at the beginning, the directory of a zip file at the end.
    places = st.one_of(st.integers(0, min(3000, last)), st.integers(max(0, last - 2500), last))
    changes = st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4)
    for place, value in data.draw(changes):
        content[place] = value
    outcome(tmp_path / "flipped", bytes(content))


def test_a_flipped_weight_of_a_zip_file_is_noticed(
    contents: dict[str, bytes], tmp_path: Path
) -> None:
    content = bytearray(contents["torch"])
    at = content.index(samples.numbers(4, 3, 3, 3).tobytes())
    content[at + 5] ^= 1
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    container = open_container(path)
    with pytest.raises(InputError, match="checksum"):
        container.read("state_dict/conv.weight")

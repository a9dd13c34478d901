"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from forking import Forks

# There are as many workers as cores; more threads in each wait for one another. Read by OpenMP when
# torch is imported, here and in the commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The machines that run the tests are shared; a slow moment is no failure. CI draws the same
# examples every time, so that a commit gets the same answer; others are drawn everywhere else.
settings.register_profile(
    "shared-machine", deadline=None, print_blob=True, derandomize="CI" in os.environ
)
settings.load_profile("shared-machine")


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Starts commands in processes of their own, without importing torch for each of them."""
    with Forks(tmp_path_factory.mktemp("printed")) as found:
        yield found

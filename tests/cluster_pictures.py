"""The pictures that the tests of a cluster predict."""

from __future__ import annotations

COUNT = 300
#: The numbers of those that cannot be read.
BROKEN = (17, 130)

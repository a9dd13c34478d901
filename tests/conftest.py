"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# The machines that run the tests are shared; a slow moment is no failure. CI draws the same
# examples every time, so that a commit gets the same answer; others are drawn everywhere else.
settings.register_profile(
    "shared-machine", deadline=None, print_blob=True, derandomize="CI" in os.environ
)
settings.load_profile("shared-machine")

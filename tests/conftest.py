"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# The machines that run the tests are shared; a slow moment is no failure.
settings.register_profile("shared-machine", deadline=None, print_blob=True)
settings.load_profile("shared-machine")

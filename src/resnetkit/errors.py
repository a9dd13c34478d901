"""The one error that is the user's to mend."""

from __future__ import annotations


class InputError(ValueError):
    """What was given cannot be used.

    The message is one line: what was given, what is allowed, what to do. The command line prints it
    and exits with 2. ``command`` is the message with flags in the place of parameters, where these
    differ.
    """

    def __init__(self, text: str, *, command: str | None = None) -> None:
        super().__init__(text)
        self.command = text if command is None else command

    def behind(self, beginning: str) -> InputError:
        """The same error behind a beginning, in both wordings."""
        return InputError(f"{beginning}{self}", command=f"{beginning}{self.command}")


class AssumptionWarning(UserWarning):
    """What a file could not tell and was taken as documented, and what was left out of it."""


#: What a network without a classifier cannot do, and the ways to go on.
NO_CLASSES = (
    "has no classes to rank, for it has no classifier; train one with `resnetkit train DATA --from "
    "FILE`, name its layer with `resnetkit convert --head NAME`, or take embeddings"
)

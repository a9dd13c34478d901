"""The one error that is the user's to mend."""


class InputError(ValueError):
    """What was given cannot be used.

    The message is one line: what was given, what is allowed, what to do. The command line prints it
    and exits with 2.
    """

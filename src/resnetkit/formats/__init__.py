"""One module for each kind of container, with the same two functions in each.

``claims(head, path)`` detects the kind by the first bytes, or if necessary by the archive's
directory, never by the suffix. ``open_file(path)`` lists the contents; the arrays stay in the file.
Both raise ``UnfitError`` with a reason, which ``resnetkit.formats.opening`` turns into
``InputError``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

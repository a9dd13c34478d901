"""One file for each kind of container, with the same two functions in each.

``claims(head, path)`` says whether a file is of the kind, by its first bytes and where those are
not enough by its directory, never by its ending. ``open_file(path)`` lists what is in it; the
arrays stay in the file. Both raise ``UnfitError`` with a reason;
``resnetkit.formats.opening`` makes an ``InputError`` of it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

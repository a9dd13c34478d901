"""What a ResNet is: layers, blocks, stages and networks, in plain Python.

Nothing here imports anything but the standard library.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Looks inside a network: feature maps, attributions, receptive fields, statistics of weights."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

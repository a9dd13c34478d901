"""A bundle: weights, network, preprocessing and class names in one file; opens any model file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Image files to pixels and tensors: decoding, orientation, crop, limits."""

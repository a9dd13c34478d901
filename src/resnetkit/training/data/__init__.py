"""Batches for training: augmentation, caching, ordering, loading."""

"""Weights from where they are published to a bundle: sources, downloads, the cache."""

"""From a description to a torch module."""

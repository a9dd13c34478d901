"""The torch module of a network."""

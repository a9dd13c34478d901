"""Weights in from files, publishers and other frameworks, and out to them."""

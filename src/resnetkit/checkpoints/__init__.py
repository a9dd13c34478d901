"""Somebody's weights: files of other frameworks, read as data and never run."""

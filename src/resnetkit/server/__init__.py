"""Answers over HTTP: a bundle or an exported file behind an application of FastAPI."""

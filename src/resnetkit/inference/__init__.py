"""Inference: engines, prediction, result files."""

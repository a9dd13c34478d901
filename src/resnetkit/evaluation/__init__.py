"""Accuracy, confidence intervals, calibration, benchmarks, and trials of ambiguous checkpoints."""

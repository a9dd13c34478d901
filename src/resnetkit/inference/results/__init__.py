"""Prediction files: CSV, JSON, JSON lines, Parquet, npy; resumable."""

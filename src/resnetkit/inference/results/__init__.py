"""Predictions as files: CSV, JSON, JSON lines, Parquet, numpy; a file that goes on after a kill."""

"""Labelled images: folders, tables, IDX, Arrow, shards, and their splits."""

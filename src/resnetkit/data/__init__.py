"""Images and labels: datasets, decoding, listing, prefetching."""

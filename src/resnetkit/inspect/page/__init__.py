"""The page that opens a network."""

"""A bundle as a file of another runtime, with proof that the answers are the same."""

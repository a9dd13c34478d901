"""HTML pages of networks, runs and evaluations."""

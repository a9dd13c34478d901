"""Training: from a recipe to a run folder with the best and the last bundle."""

"""A bundle: weights, network, preprocessing and class names in one file; opens any model file."""

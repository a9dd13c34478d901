"""Recipes: hyperparameters, augmentation, published recipes."""

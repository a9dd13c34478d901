"""What a training run does: hyperparameters, augmentation, published recipes, TOML."""

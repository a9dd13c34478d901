"""Objects as HTML in notebooks; ``front`` is what ``resnetkit.display`` calls."""

"""Reports: terminal, SVG, HTML, plots, TensorBoard."""

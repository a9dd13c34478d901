"""Training callbacks: the live report, TensorBoard, MLflow, Weights & Biases."""

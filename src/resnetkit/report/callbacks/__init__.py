"""Training callbacks that write TensorBoard events and the live report."""

"""What turns a batch of pixels into answers: torch, OpenVINO, ONNX Runtime."""

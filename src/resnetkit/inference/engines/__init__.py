"""Engines: batches of pixels to logits, by torch, OpenVINO or ONNX Runtime."""

"""Export to ONNX, OpenVINO, torch.export, Triton and OVMS, and int8, with an agreement report."""

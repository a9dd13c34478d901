"""Export to ONNX, OpenVINO, torch.export, Triton and OVMS, and int8, with an agreement report."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

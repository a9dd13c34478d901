"""resnetkit: every ResNet, exactly - see it, train it, classify with it.

=====================  ==========================================================================
``list_models``        the names of all networks
``network``            a network's description, by name, with options changed
``explain``            a network layer by layer: shapes, parameters, MACs, receptive field
``compare``            where two networks differ
``build``              the torch module of a network
``load``               weights of any framework, a file of ours, or a published source, as a bundle
``fetch``              a bundle of published weights
``identify``           what a file of weights is, and what it cannot tell
``convert``            a checkpoint in another framework's names, compared with the input
``verify``             a checkpoint run in its own framework, beside ours
``train``, ``resume``  a run: from labelled images to a folder with bundles and a report
``find_lr``            a learning rate, by the range test
``evaluate``           a model measured on labelled images
``predict``            the classes of images
``predict_to_file``    the same, or embeddings, into CSV, JSON, Parquet or npy
``embed``              the pooled last map of images
``export``             a bundle for ONNX, OpenVINO, torch.export, Triton, OVMS, also in int8
``benchmark``          how fast a model is on this machine
``open_model``         a bundle or an exported file
``serve``              a model over HTTP
``compare_runs``       the runs in a folder side by side
=====================  ==========================================================================

Each name is imported when it is first used, so that describing a network loads no torch.
"""

from typing import Any

import lazy_loader

from resnetkit.errors import missing
from resnetkit.version import __version__ as __version__

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    try:
        return _load(name)
    except ModuleNotFoundError as error:
        raise missing(error, f"resnetkit.{name}") or error from None

"""resnetkit: every ResNet, exactly - see it, train it, classify with it.

=====================  ==========================================================================
``list_models``        the names of all networks
``network``            a network's description, by name, with options changed
``explain``            a network layer by layer: shapes, parameters, MACs, receptive field
``compare``            where two networks differ
``build``              the torch module of a network
``load``               weights of any framework, a bundle, or a published source, as a bundle
``fetch``              a bundle of published weights
``push_to_hub``        a bundle as a repository of the Hugging Face Hub
``identify``           the framework and network of a weight file, and what it leaves open
``convert``            a checkpoint in another framework's format, verified
``verify``             a checkpoint compared with its own framework
``train``, ``resume``  a run: from labelled images to a folder with bundles and a report
``find_lr``            a learning rate, by the range test
``evaluate``           a model's metrics on labelled images
``predict``            the classes of images
``predict_to_file``    the same, or embeddings, as CSV, JSON, Parquet or npy
``embed``              the pooled features of images
``export``             a bundle for ONNX, OpenVINO, torch.export, Triton, OVMS, also in int8
``benchmark``          a model's speed on this machine
``open_model``         a bundle or an exported file
``serve``              a model over HTTP
``compare_runs``       the runs in a folder side by side
=====================  ==========================================================================

Names are imported on first use, so that describing a network does not import torch.
"""

from typing import Any

import lazy_loader

from resnetkit import display as _display
from resnetkit import source as _source
from resnetkit.errors import missing
from resnetkit.version import __version__ as __version__

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _front() -> _display.Front:
    from resnetkit.report.notebook import front

    return front


_display.front = _front


def __getattr__(name: str) -> Any:
    try:
        return _load(name)
    except ModuleNotFoundError as error:
        raise missing(error, f"resnetkit.{name}") or error from None


_source.function = __getattr__

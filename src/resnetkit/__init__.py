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

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from resnetkit.version import __version__ as __version__

if TYPE_CHECKING:
    from resnetkit.architecture.comparison import Comparison, compare
    from resnetkit.architecture.explanation import Explanation, explain
    from resnetkit.architecture.network import Network
    from resnetkit.architecture.options import Options
    from resnetkit.architecture.registry import catalog, list_models, network
    from resnetkit.bundle.bundle import Bundle
    from resnetkit.bundle.opening import open_model
    from resnetkit.bundle.prediction import embed, predict, predict_to_file
    from resnetkit.checkpoints.identification import Identification, identify
    from resnetkit.errors import AssumptionWarning, InputError
    from resnetkit.evaluation.benchmark import benchmark
    from resnetkit.evaluation.evaluation import Evaluation, evaluate
    from resnetkit.exporters.exporter import export
    from resnetkit.hub.conversion import convert
    from resnetkit.hub.fetching import fetch
    from resnetkit.hub.source_framework import verify
    from resnetkit.hub.weights import build, load
    from resnetkit.inference.engines.exported_model import Exported
    from resnetkit.inference.prediction import Prediction
    from resnetkit.nn.resnet import ResNet
    from resnetkit.preprocess import Preprocess
    from resnetkit.server.serving import serve
    from resnetkit.training.callbacks import Callback
    from resnetkit.training.recipe.augmentation import Augment
    from resnetkit.training.recipe.recipe import Recipe
    from resnetkit.training.run_comparison import compare_runs
    from resnetkit.training.train import find_lr, resume, train

_HOMES = {
    "architecture.comparison": "Comparison compare",
    "architecture.explanation": "Explanation explain",
    "architecture.network": "Network",
    "architecture.options": "Options",
    "architecture.registry": "catalog list_models network",
    "bundle.bundle": "Bundle",
    "bundle.opening": "open_model",
    "bundle.prediction": "embed predict predict_to_file",
    "checkpoints.identification": "Identification identify",
    "errors": "AssumptionWarning InputError",
    "evaluation.benchmark": "benchmark",
    "evaluation.evaluation": "Evaluation evaluate",
    "exporters.exporter": "export",
    "hub.conversion": "convert",
    "hub.fetching": "fetch",
    "hub.source_framework": "verify",
    "hub.weights": "build load",
    "inference.engines.exported_model": "Exported",
    "inference.prediction": "Prediction",
    "nn.resnet": "ResNet",
    "preprocess": "Preprocess",
    "server.serving": "serve",
    "training.callbacks": "Callback",
    "training.recipe.augmentation": "Augment",
    "training.recipe.recipe": "Recipe",
    "training.run_comparison": "compare_runs",
    "training.train": "find_lr resume train",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}
__all__ = [
    "AssumptionWarning",
    "Augment",
    "Bundle",
    "Callback",
    "Comparison",
    "Evaluation",
    "Explanation",
    "Exported",
    "Identification",
    "InputError",
    "Network",
    "Options",
    "Prediction",
    "Preprocess",
    "Recipe",
    "ResNet",
    "benchmark",
    "build",
    "catalog",
    "compare",
    "compare_runs",
    "convert",
    "embed",
    "evaluate",
    "explain",
    "export",
    "fetch",
    "find_lr",
    "identify",
    "list_models",
    "load",
    "network",
    "open_model",
    "predict",
    "predict_to_file",
    "resume",
    "serve",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'resnetkit' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"resnetkit.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""The networks for ``torch.hub``: every name of ``resnetkit.list_models()``, and ``load``.

>>> torch.hub.load(FOLDER_OF_THIS_REPOSITORY, "resnet50d", source="local", num_classes=3)
"""

import sys as _sys
from functools import partial as _partial
from pathlib import Path as _Path
from typing import Any as _Any

# torch.hub checks that these are installed; the package itself need not be.
dependencies = ["jinja2", "lazy_loader", "ml_dtypes", "numpy", "PIL", "rich", "tomli_w", "torch"]

_sys.path.insert(0, str(_Path(__file__).parent / "src"))

import resnetkit as _resnetkit  # noqa: E402


def load(source: str, **options: _Any) -> _Any:
    """The module, in evaluation mode, of ``resnetkit.load(source, **options)``: a bundle, a
    checkpoint of any framework, or a published source such as ``hf:timm/resnet50.a1_in1k``."""
    return _resnetkit.load(source, **options).module()


def _entry(name: str) -> _Any:
    entry: _Any = _partial(_resnetkit.build, name)
    entry.__doc__ = f"{name}, initialised; options are those of ``resnetkit.build``."
    return entry


globals().update({name: _entry(name) for name in _resnetkit.list_models()})

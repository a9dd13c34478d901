"""The dialects: one module per framework, each with ``path`` and ``DIALECTS``.

The order decides between dialects that read the same names equally well: frameworks with fewer
networks come first, resnetkit's own names last.
"""

from __future__ import annotations

from resnetkit.checkpoints.dialect import Dialect
from resnetkit.checkpoints.dialects import (
    caffe2,
    cifar,
    detectron2,
    keras,
    mmpretrain,
    pytorchcv,
    resnetkit,
    semseg,
    smp,
    timm,
    torchvision,
    transformers,
)

DIALECTS: tuple[Dialect, ...] = (
    *torchvision.DIALECTS,
    *timm.DIALECTS,
    *smp.DIALECTS,
    *cifar.DIALECTS,
    *semseg.DIALECTS,
    *transformers.DIALECTS,
    *mmpretrain.DIALECTS,
    *detectron2.DIALECTS,
    *caffe2.DIALECTS,
    *keras.DIALECTS,
    *pytorchcv.DIALECTS,
    *resnetkit.DIALECTS,
)
#: Those that can also be written.
WRITTEN: tuple[Dialect, ...] = tuple(
    one for one in DIALECTS if not one.evidence and not one.read_only
)

"""Caffe2: the pickles of Detectron's model zoo (MSRA's R-50.pkl and similar).

Source: detectron/modeling/ResNet.py and the renaming in detectron2/checkpoint/c2_model_loading.py.
Norms are folded into a scale ``_bn_s`` and a bias ``_bn_b``; files that are not folded have
``_bn_rm`` and ``_bn_riv`` besides; others spell these four ``_bn_gamma``, ``_bn_beta``,
``_bn_running_mean`` and ``_bn_running_var`` (``key_normalization.py``). The head is ``pred``, in
MSRA's files ``fc1000``. These also have a ``conv1_b``, which no reader uses and is a leftover.
"""

from __future__ import annotations

from dataclasses import replace

from resnetkit.architecture.parameters import Place
from resnetkit.checkpoints.dialect import Dialect, DialectPreprocess
from resnetkit.checkpoints.facts import epsilon, head_pool, stem_pool, stride_on
from resnetkit.preprocess import Preprocess

_CODE = "detectron/modeling/ResNet.py"


def path(place: Place) -> str:
    """``conv1``, ``res_conv1_bn``, ``res2_0_branch2a``, ``res2_0_branch1_bn``."""
    norm = "_bn" if place.kind == "norm" else ""
    if place.part == "stem":
        return f"res_conv{place.number}_bn" if norm else f"conv{place.number}"
    branch = "branch1" if place.part == "shortcut" else f"branch2{' abc'[place.number]}"
    return f"res{place.stage + 1}_{place.block}_{branch}{norm}"


_CAFFE2 = Dialect(
    name="caffe2",
    about="Detectron's and MSRA's ResNets and ResNeXts, norms folded",
    source=_CODE,
    path=path,
    heads=("pred", "fc1000"),
    suffixes={
        "conv": {"weight": "_w", "bias": "_b"},
        "norm": {
            "weight": "_s",
            "bias": "_b",
            "running_mean": "_rm",
            "running_var": "_riv",
        },
        "linear": {"weight": "_w", "bias": "_b"},
    },
    absent=("num_batches_tracked",),
    unfolds=True,
    folds=True,
    holds={
        "block": ("bottleneck",),
        "stem": ("7x7",),
        "stem_padding": (3,),
        "stem_pool": ("padded",),
        "shortcut": ("projection",),
        "squeeze_excitation": (None,),
        "conv_bias": (False,),
        "head_pool": ("global",),
        "rounding": ("floor",),
    },
    facts=(
        stride_on("1x1", f"{_CODE}: RESNETS.STRIDE_1X1, true by default; ResNeXt is 3x3"),
        epsilon("irrelevant while norms are folded"),
        stem_pool(f"{_CODE}: max pool padded by 1"),
        head_pool(_CODE),
    ),
    preprocess=(
        DialectPreprocess(
            label="MSRA",
            preprocess=Preprocess(
                size=224,
                resize_to=256,
                channels="BGR",
                divisor=1.0,
                mean=(102.9801, 115.9465, 122.7717),
                std=(1.0, 1.0, 1.0),
            ),
            source="detectron/core/config.py: PIXEL_MEANS; sizes as usual for ImageNet",
        ),
    ),
)
DIALECTS = (
    _CAFFE2,
    replace(
        _CAFFE2,
        name="caffe2-biased",
        about="Caffe2's ResNets with biased convolutions as well as norms",
        evidence=("res2_0_branch2a_b",),
        holds={**_CAFFE2.holds, "conv_bias": (True,)},
    ),
)

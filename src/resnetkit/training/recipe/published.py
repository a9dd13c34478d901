"""Published recipes by name, with the source of each value.

``quick`` is ours and has no entry: the defaults of ``make_recipe`` for the data. Learning rates are
for ``batch_size``; for others they are scaled (``make_recipe``). Side lengths are shares of the
evaluation size, 224 in all sources, so that they apply to other sizes too.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resnetkit.errors import InputError
from resnetkit.training.recipe.recipe import read_toml

QUICK = "quick"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Options of a recipe.

    ``values`` are options of ``Recipe``, ``augment`` those of ``Augment``. ``shown`` is the shorter
    side before the centre crop, ``trained`` the side of training images, ``first`` that of the
    first epochs, all as shares of the size.
    """

    about: str
    values: Mapping[str, Any]
    augment: Mapping[str, Any] = field(default_factory=dict)
    shown: float = 8 / 7
    trained: float = 1.0
    first: float | None = None
    interpolation: str = "bilinear"


#: He et al. 2015, arXiv:1512.03385, section 3.4: SGD with batches of 256, rate 0.1 divided by 10
#: when the error plateaus, 600,000 steps (120 epochs of ImageNet), decay 0.0001, momentum 0.9, no
#: dropout; shorter side from 256 to 480, crops of 224, mirrored, colour noise. The plateaus are
#: fixed at 30, 60 and 90 epochs, as in fb.resnet.torch; evaluation uses one crop, not ten.
_PAPER = Preset(
    about="He et al. 2015",
    values={
        **{"epochs": 120, "batch_size": 256, "lr": 0.1, "momentum": 0.9, "nesterov": False},
        **{
            "weight_decay": 1e-4,
            "weight_decay_scope": "all",
            "label_smoothing": 0.0,
            "warmup": 0.0,
        },
        **{"schedule": "step", "milestones": (0.25, 0.5, 0.75)},
    },
    augment={"flip": True, "shortest": (256 / 224, 480 / 224), "lighting": 0.1},
)

#: torchvision's references/classification, "How to Train State-Of-The-Art Models Using
#: TorchVision's Latest Primitives" (Vryniotis, 18 November 2021): --batch-size 128 on 8 processes,
#: --lr 0.5, --lr-scheduler cosineannealinglr, --lr-warmup-epochs 5, --auto-augment ta_wide,
#: --epochs 600, --random-erase 0.1, --weight-decay 0.00002, --norm-weight-decay 0.0,
#: --label-smoothing 0.1, --mixup-alpha 0.2, --cutmix-alpha 1.0, --train-crop-size 176,
#: --model-ema, --val-resize-size 232, --ra-sampler --ra-reps 4. The average's decay there is 1 -
#: (1 - 0.99998) * 1024 * 32 / 600 every 32 steps. Crops keep at least 8 % of the area,
#: torchvision's default. Biases decay there, but not here.
_TV_V2 = Preset(
    about="torchvision's new recipe, 2021",
    values={
        **{"epochs": 600, "batch_size": 1024, "lr": 0.5, "momentum": 0.9, "nesterov": False},
        **{"weight_decay": 2e-5, "label_smoothing": 0.1, "warmup": 5.0, "schedule": "cosine"},
        **{"mixup": 0.2, "cutmix": 1.0, "aug_repeats": 4, "ema_decay": 0.9989, "ema_every": 32},
    },
    augment={"flip": True, "crop": 0.08, "policy": "trivialaugment", "erase": 0.1},
    shown=232 / 224,
    trained=176 / 224,
)

#: Wightman, Touvron & Jégou 2021, "ResNet strikes back", arXiv:2110.00476, table 2: LAMB, batches
#: of 2048, cosine, warm-up of 5 epochs, binary cross-entropy, CutMix 1.0, crop ratio 0.95. timm's
#: optimizer clips the gradient's norm at 1; its loss counts shares above 0.2 as 1.
#: RandAugment's magnitude 7 of timm's 10 is 21 of torchvision's 30, without noise of the
#: magnitude.
_STRIKES_BACK = {
    **{"batch_size": 2048, "optimizer": "lamb", "schedule": "cosine", "warmup": 5.0},
    **{"loss": "bce", "bce_threshold": 0.2, "cutmix": 1.0, "clip_grad": 1.0},
}
_A1 = Preset(
    about="ResNet strikes back, procedure A1",
    values={
        **_STRIKES_BACK,
        **{"epochs": 600, "lr": 5e-3, "weight_decay": 0.01, "label_smoothing": 0.1},
        **{"mixup": 0.2, "aug_repeats": 3, "drop_path": 0.05},
    },
    augment={"flip": True, "crop": 0.08, "policy": "randaugment", "magnitude": 21},
    shown=1 / 0.95,
    interpolation="bicubic",
)
_A2 = Preset(
    about="ResNet strikes back, procedure A2",
    values={
        **_STRIKES_BACK,
        **{"epochs": 300, "lr": 5e-3, "weight_decay": 0.02, "label_smoothing": 0.0},
        **{"mixup": 0.1, "aug_repeats": 3, "drop_path": 0.05},
    },
    augment={"flip": True, "crop": 0.08, "policy": "randaugment", "magnitude": 21},
    shown=1 / 0.95,
    interpolation="bicubic",
)
_A3 = Preset(
    about="ResNet strikes back, procedure A3",
    values={
        **_STRIKES_BACK,
        **{"epochs": 100, "lr": 8e-3, "weight_decay": 0.02, "label_smoothing": 0.0, "mixup": 0.1},
    },
    augment={"flip": True, "crop": 0.08, "policy": "randaugment", "magnitude": 18},
    shown=1 / 0.95,
    trained=160 / 224,
    interpolation="bicubic",
)

#: libffcv/ffcv-imagenet, rn18_configs/rn18_16_epochs.yaml: batches of 1024, rate 0.5 with its peak
#: after 2 epochs, then linear to 0, decay 5e-5 (ResNet-50: 1e-4), label smoothing 0.1, sides from
#: 160 to 192 between epochs 11 and 13, evaluated at 256 with the mean of both mirror images. 24,
#: 32, 40, 56 and 88 epochs stretch the same schedule. Its blur before strides is the network's:
#: --anti-alias blur.
_FFCV = Preset(
    about="ffcv's ImageNet training, 16 to 88 epochs",
    values={
        **{"epochs": 16, "batch_size": 1024, "lr": 0.5, "momentum": 0.9, "nesterov": False},
        **{"weight_decay": 5e-5, "label_smoothing": 0.1, "warmup": 2.0, "schedule": "linear"},
        **{"progressive_resizing": (11 / 16, 13 / 16), "flip_tta": True},
    },
    augment={"flip": True, "crop": 0.08},
    trained=192 / 256,
    first=160 / 256,
)

RECIPES = {
    "paper": _PAPER,
    "tv-v2": _TV_V2,
    "a1": _A1,
    "a2": _A2,
    "a3": _A3,
    "ffcv": _FFCV,
}


def named(recipe: str | Path) -> Preset | dict[str, Any] | None:
    """A recipe by name, or the fields of a TOML file; None for ``quick``.

    Raises ``ValueError`` for an unknown name, and for a file that is not a recipe.
    """
    if recipe == QUICK:
        return None
    if recipe in RECIPES:
        return RECIPES[str(recipe)]
    path = Path(recipe)
    if path.is_file():
        try:
            return read_toml(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path}: {error}") from None
    names = (QUICK, *RECIPES)
    near = difflib.get_close_matches(str(recipe), names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(f"there is no recipe or file {recipe}; {hint}the names are {', '.join(names)}")

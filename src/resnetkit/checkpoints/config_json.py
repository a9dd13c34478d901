"""Reads ``config.json`` and ``preprocessor_config.json`` beside a weight file.

Sources: timm/data/config.py and timm/data/transforms_factory.py (how timm uses a
``pretrained_cfg``); transformers models/convnext/image_processing_convnext.py (the image processor
of its ResNet). Neither is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from resnetkit.architecture import registry
from resnetkit.checkpoints.dialect import DialectPreprocess
from resnetkit.errors import InputError, parsed
from resnetkit.preprocess import Interpolation, Preprocess

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
#: Maximum bytes of a configuration.
LONGEST = 16 << 20
#: transformers' placeholder class names.
_UNNAMED = "LABEL_"
#: Pillow's filter codes, as written by transformers; others are not supported.
_FILTERS: Mapping[int, Interpolation] = {0: "nearest", 2: "bilinear", 3: "bicubic"}
_PROCESSORS = ("ConvNextImageProcessor", "ConvNextFeatureExtractor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The configuration beside a weight file.

    ``model`` is the ``config.json``. ``preprocess`` are the preprocessings in it or in
    ``preprocessor_config.json``, the framework's default first; ``classes`` the class names, made
    unique. ``warnings`` are messages about unsupported parts.
    """

    framework: Literal["timm", "transformers"]
    model: Mapping[str, Any]
    preprocess: tuple[DialectPreprocess, ...]
    classes: tuple[str, ...] | None
    warnings: tuple[str, ...]


def beside(path: Path) -> Configuration | None:
    """The configuration in the folder of the file at ``path``, or None."""
    model = _document(path.parent / CONFIG)
    if model is None:
        return None
    warnings: list[str] = []
    if isinstance(model.get("architecture"), str):
        return Configuration(
            framework="timm",
            model=model,
            preprocess=_attempt(_of_timm, model, CONFIG, warnings),
            classes=_names(_stated(model).get("label_names", model.get("label_names"))),
            warnings=(*warnings, *_unknown(model)),
        )
    if "model_type" in model:
        processor = _document(path.parent / PROCESSOR)
        choices = _attempt(_of_transformers, processor, PROCESSOR, warnings) if processor else ()
        return Configuration(
            framework="transformers",
            model=model,
            preprocess=choices,
            classes=_names(_listed(model.get("id2label"))),
            warnings=tuple(warnings),
        )
    return None


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Append the class index to duplicate names: ``crane (134)``."""

    def numbered(which: Callable[[str], bool]) -> tuple[str, ...]:
        return tuple(f"{n} ({i})" if which(n) else n for i, n in enumerate(names))

    found = numbered(lambda name: names.count(name) > 1)
    return found if len(set(found)) == len(found) else numbered(lambda _: True)


def _document(path: Path) -> dict[str, Any] | None:
    try:
        if not path.is_file() or path.stat().st_size > LONGEST:  # a pipe would block
            return None
        return parsed(path.read_bytes())
    except (OSError, InputError):
        return None


def _attempt(
    read: Callable[[Mapping[str, Any]], tuple[DialectPreprocess, ...]],
    document: Mapping[str, Any],
    name: str,
    warnings: list[str],
) -> tuple[DialectPreprocess, ...]:
    """The result of ``read``; nothing and a warning if it is not supported."""
    try:
        return read(document)
    except (InputError, TypeError, ValueError, KeyError, ZeroDivisionError) as error:
        warnings.append(f"{name} has unsupported preprocessing: {error}")
        return ()


def _stated(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """timm's ``pretrained_cfg``, at the top level in older files."""
    found = model.get("pretrained_cfg", model)
    return found if isinstance(found, dict) else {}


def _unknown(model: Mapping[str, Any]) -> list[str]:
    name = model["architecture"]
    if any(entry.name == name for entry in registry.catalog()):
        return []
    return [
        f"{CONFIG} is of timm's {name}, which is not in the catalogue; what the tensors do "
        "not show stays open"
    ]


def _of_timm(model: Mapping[str, Any]) -> tuple[DialectPreprocess, ...]:
    """timm's preprocessing for this weight set, and for its test size."""
    stated = _stated(model)
    if not {"input_size", "crop_pct", "interpolation", "mean", "std"} & set(stated):
        return ()
    choices = [_timm_choice(model, "input_size", "crop_pct", "pretrained_cfg")]
    if stated.get("test_input_size"):
        choices.append(_timm_choice(model, "test_input_size", "test_crop_pct", "test_input_size"))
    return tuple(choices)


def _timm_choice(model: Mapping[str, Any], size: str, crop: str, label: str) -> DialectPreprocess:
    stated = _stated(model)
    channels, height, width = stated.get(size) or (3, 224, 224)
    channels = (model.get("model_args") or {}).get("in_chans") or channels
    if height != width:
        raise InputError(f"{size} is {height}x{width}; only square images are supported")
    share = stated.get(crop) or stated.get("crop_pct") or 0.875
    mode = stated.get("crop_mode") or "center"
    larger = math.floor(height / share)
    if mode not in ("center", "squash") or (mode == "squash" and larger != height):
        raise InputError(f"crop_mode is {mode!r} with crop_pct {share}")
    preprocess = Preprocess(
        size=height,
        resize="squash" if mode == "squash" else "shortest",
        resize_to=None if mode == "squash" else larger,
        interpolation=stated.get("interpolation") or "bicubic",
        channels="L" if channels == 1 else "RGB",
        mean=_three(stated.get("mean") or (0.485, 0.456, 0.406), channels),
        std=_three(stated.get("std") or (0.229, 0.224, 0.225), channels),
    )
    return DialectPreprocess(label=label, preprocess=preprocess, source=f"{CONFIG}: {size}, {crop}")


def _of_transformers(stated: Mapping[str, Any]) -> tuple[DialectPreprocess, ...]:
    """The preprocessing of transformers' ResNet image processor.

    Below 384 pixels the shorter side becomes ``size / crop_pct`` and the centre is cropped; from
    384 on the image is squashed.
    """
    kind = (
        stated.get("image_processor_type") or stated.get("feature_extractor_type") or _PROCESSORS[0]
    )
    if str(kind).removesuffix("Fast").removesuffix("Pil") not in _PROCESSORS:
        raise InputError(f"it is of {kind}")
    size = stated.get("size", 384)
    size = size.get("shortest_edge") if isinstance(size, dict) else size
    if type(size) is not int:
        raise InputError(f"size is {stated['size']}")
    if not stated.get("do_resize", True) or stated.get("do_center_crop") or stated.get("do_pad"):
        raise InputError("it does not resize, or also crops or pads")
    number = stated.get("resample", 3)
    if number not in _FILTERS:
        raise InputError(f"resample is {number}, an unsupported filter")
    scale = stated.get("rescale_factor", 1 / 255) if stated.get("do_rescale", True) else 1.0
    normalises = stated.get("do_normalize", True)
    share = stated.get("crop_pct") or 224 / 256
    preprocess = Preprocess(
        size=size,
        resize="shortest" if size < 384 else "squash",
        resize_to=int(size / share) if size < 384 else None,
        interpolation=_FILTERS[number],
        centre="floor",
        divisor=_whole(1 / scale),
        mean=_three(stated.get("image_mean", 0.5) if normalises else 0.0, 3),
        std=_three(stated.get("image_std", 0.5) if normalises else 1.0, 3),
    )
    return (DialectPreprocess(label=PROCESSOR, preprocess=preprocess, source=PROCESSOR),)


def _whole(number: float) -> float:
    """Round 1 / 0.00392156862745098 to 255."""
    return float(round(number)) if math.isclose(number, round(number), rel_tol=1e-9) else number


def _three(values: Any, channels: int) -> tuple[float, ...]:
    if isinstance(values, int | float):
        values = (values,)
    return tuple(map(float, values)) * (channels if len(values) == 1 else 1)


def _listed(names: Any) -> Any:
    """transformers' ``id2label`` as names in the order of class indices."""
    if not isinstance(names, dict):
        return None
    return [names.get(str(number), names.get(number)) for number in range(len(names))]


def _names(names: Any) -> tuple[str, ...] | None:
    """The names, if there is a meaningful one for each class."""
    if not isinstance(names, list) or not names:
        return None
    if not all(isinstance(name, str) and name for name in names):
        return None
    if all(name.startswith(_UNNAMED) for name in names):
        return None
    return distinct(names)

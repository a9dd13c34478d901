"""Writes a folder that transformers and timm load: ``model.safetensors`` with its configuration.

Sources: transformers models/resnet/configuration_resnet.py and
models/convnext/image_processing_convnext.py (``from_pretrained``); timm models/_hub.py and
models/_builder.py (``timm.create_model("local-dir:FOLDER")``).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

from resnetkit.architecture import registry
from resnetkit.architecture.network import Network
from resnetkit.architecture.option_fields import EXPANSION
from resnetkit.bundle.bundle import Bundle
from resnetkit.bundle.equivalence import OutputComparison
from resnetkit.bundle.verified_write import DialectFile, deliver
from resnetkit.checkpoints.config_json import CONFIG, PROCESSOR, beside
from resnetkit.errors import InputError
from resnetkit.files import utf8, write_text
from resnetkit.hub.huggingface import MODEL
from resnetkit.preprocess import Preprocess

#: The dialects whose frameworks load folders.
FOLDERS: tuple[Literal["timm", "transformers"], ...] = ("timm", "transformers")
#: Pillow's filters, as transformers writes them.
_FILTERS = {"nearest": 0, "bilinear": 2, "bicubic": 3}


def deliver_folder(
    bundle: Bundle, target: Path, to: str
) -> tuple[DialectFile, dict[str, Any], OutputComparison]:
    """Write ``bundle`` to the new folder ``target``; see ``deliver``.

    Raises ``InputError`` for a folder that is not empty, and for a network or a preprocessing that
    the framework's configuration cannot describe. ``target`` is then unchanged.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target} is not an empty folder; give the name of a new one")
    if not target.parent.is_dir():
        raise InputError(
            f"cannot write {target}: there is no folder {target.parent}; make it first"
        )
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
        made = Path(temporary) / target.name
        made.mkdir()
        write_configuration(bundle, made, to)
        file = bundle.file_of(made / MODEL, to)
        origin, found = deliver_weights(bundle, file, made, to)
        if target.exists():
            target.rmdir()
        made.rename(target)
    return file, origin, found


def deliver_weights(
    bundle: Bundle, file: DialectFile, folder: Path, to: str
) -> tuple[dict[str, Any], OutputComparison]:
    """Write ``file``, the weights of ``bundle`` in the framework ``to``, into ``folder``; see
    ``deliver``."""
    return deliver(
        file,
        folder / MODEL,
        to,
        network=bundle.network,
        arrays=bundle.numbers,
        origin=bundle.origin,
        size=bundle.preprocess.size,
    )


def write_configuration(bundle: Bundle, folder: Path, to: str) -> None:
    """Write the configuration files of the framework ``to``.

    Raises ``InputError`` for a network or a preprocessing that they cannot describe.
    """
    documents = _transformers(bundle) if to == "transformers" else _timm(bundle)
    for name, document in documents.items():
        write_text(folder / name, json.dumps(document, indent=2) + "\n")
    _check_preprocess(bundle, folder, to)


def timm_name(network: Network) -> str | None:
    """The catalogue's name of a network, apart from its classes, channels and output stride."""
    wanted = _plain(network)
    for name in dict.fromkeys((network.name, *registry.list_models())):
        if name in registry.list_models() and _plain(registry.network(name)) == wanted:
            return name
    return None


def _plain(network: Network) -> Any:
    options = network.options
    return replace(options, num_classes=1000, in_chans=3, output_stride=options.natural_stride)


def _transformers(bundle: Bundle) -> dict[str, Mapping[str, Any]]:
    options = bundle.network.options
    assert options.stem_widths is not None
    labels = {str(number): utf8(name) for number, name in enumerate(bundle.classes)}
    return {
        CONFIG: {
            "architectures": ["ResNetForImageClassification" if labels else "ResNetModel"],
            "model_type": "resnet",
            "num_channels": options.in_chans,
            "embedding_size": options.stem_widths[0],
            "hidden_sizes": [width * EXPANSION[options.block] for width in options.widths],
            "depths": list(options.depths),
            "layer_type": options.block,
            "hidden_act": "relu",
            "downsample_in_first_stage": False,
            "downsample_in_bottleneck": options.stride_on == "1x1",
            **(
                {
                    "id2label": labels,
                    "label2id": {name: int(number) for number, name in labels.items()},
                }
                if labels
                else {}
            ),
        },
        PROCESSOR: _processor(_of_bytes(bundle.preprocess)),
    }


def _processor(preprocess: Preprocess) -> dict[str, Any]:
    share = preprocess.size / (preprocess.resize_to or preprocess.size)
    if int(preprocess.size / share) != (preprocess.resize_to or preprocess.size):
        share = preprocess.size / ((preprocess.resize_to or preprocess.size) + 0.5)
    return {
        "image_processor_type": "ConvNextImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": preprocess.size},
        "crop_pct": share,
        "resample": _FILTERS[preprocess.interpolation],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }


def _timm(bundle: Bundle) -> dict[str, Mapping[str, Any]]:
    network, preprocess = bundle.network, _of_bytes(bundle.preprocess)
    options, size = network.options, preprocess.size
    name = timm_name(network)
    if name is None:
        raise InputError(
            f"{network.name} is not a network that timm creates by name; give a file name, such as "
            "model.safetensors, to write the weights alone"
        )
    squash = preprocess.resize == "squash"
    arguments: dict[str, Any] = {"in_chans": options.in_chans} if options.in_chans != 3 else {}
    if options.output_stride != options.natural_stride:
        arguments["output_stride"] = options.output_stride
    return {
        CONFIG: {
            "architecture": name,
            "num_classes": options.num_classes or 0,
            "num_features": options.stage_outputs[-1],
            **({"model_args": arguments} if arguments else {}),
            "pretrained_cfg": {
                "num_classes": options.num_classes or 0,
                "input_size": [options.in_chans, size, size],
                "crop_pct": 1.0 if squash else size / (preprocess.resize_to or size),
                "crop_mode": "squash" if squash else "center",
                "interpolation": preprocess.interpolation,
                "mean": list(preprocess.mean),
                "std": list(preprocess.std),
                "first_conv": "conv1.0" if options.stem == "deep" else "conv1",
                "classifier": "fc",
            },
            # Here timm and transformers both read it.
            **({"label_names": [utf8(name) for name in bundle.classes]} if bundle.classes else {}),
        }
    }


def _of_bytes(preprocess: Preprocess) -> Preprocess:
    """The same with the divisor 255."""
    scale = preprocess.divisor / 255
    return replace(
        preprocess,
        divisor=255.0,
        mean=tuple(value * scale for value in preprocess.mean),
        std=tuple(value * scale for value in preprocess.std),
    )


def _check_preprocess(bundle: Bundle, folder: Path, to: str) -> None:
    """Raise ``InputError`` unless the configuration, read back, has the bundle's preprocessing.

    How half of an odd margin is rounded is fixed in each framework and not compared.
    """
    read = beside(folder / MODEL)
    theirs = read.preprocess[0].preprocess if read and read.preprocess else None
    ours = _of_bytes(bundle.preprocess)
    if theirs is not None:
        theirs = replace(theirs, centre=ours.centre)
    names = [f.name for f in fields(ours) if getattr(ours, f.name) != getattr(theirs, f.name, None)]
    if names:
        given = ", ".join(f"{name} {getattr(ours, name)}" for name in names)
        raise InputError(
            f"{to}'s configuration cannot describe the preprocessing: {given}; give another "
            "preprocess, or a file name, such as model.safetensors, to write the weights alone",
            field="preprocess",
        )

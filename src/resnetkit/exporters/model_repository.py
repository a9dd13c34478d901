"""Model repositories for Triton and OpenVINO Model Server."""

from __future__ import annotations

import json
import re
from pathlib import Path

from resnetkit.files import utf8
from resnetkit.inference.engines.exported_model import Exported
from resnetkit.inference.engines.onnx_export import PIXELS

#: Triton's maximum batch size; larger batches gain little on typical machines.
MOST_BATCH = 64
LABELS = "labels.txt"


def name_of(target: Path) -> str:
    """The model's name in the repository: the folder's, in the characters both servers allow."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", target.resolve().name).strip("-") or "model"


def write_triton(folder: Path, name: str, exported: Exported, model: Path) -> None:
    """``NAME/config.pbtxt``, ``NAME/labels.txt`` and ``NAME/1/model.onnx``, moved from ``model``.

    https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md
    """
    place = folder / name
    (place / "1").mkdir(parents=True)
    model.rename(place / "1" / "model.onnx")
    _write_labels(place, exported)
    (place / "config.pbtxt").write_text(triton_config(name, exported), encoding="utf-8")


def triton_config(name: str, exported: Exported) -> str:
    """The configuration, as protobuf's text format of Triton's ``ModelConfig``."""
    options, size = exported.network.options, exported.preprocess.size
    channels = exported.preprocess.channel_count
    batched = exported.batch is None
    pixels = [-1, -1, channels] if exported.cuts else [size, size, channels]
    rows = [options.num_classes or exported.network.features]
    if not batched:  # then dims include the batch
        pixels, rows = [exported.batch or 1, *pixels], [exported.batch or 1, *rows]
    labels = f'    label_filename: "{LABELS}"\n' if exported.classes else ""
    text = (
        f'name: "{name}"\n'
        'backend: "onnxruntime"\n'
        f"max_batch_size: {MOST_BATCH if batched else 0}\n"
        "input [\n  {\n"
        f'    name: "{PIXELS}"\n    data_type: TYPE_UINT8\n    dims: {pixels}\n'
        "  }\n]\n"
        "output [\n  {\n"
        f'    name: "{exported.output}"\n    data_type: TYPE_FP32\n    dims: {rows}\n{labels}'
        "  }\n]\n"
    )
    return text + ("dynamic_batching { }\n" if batched else "")


def write_ovms(folder: Path, name: str, exported: Exported, model: Path) -> None:
    """``config.json``, ``NAME/labels.txt``, ``NAME/1/model.xml`` and ``.bin``, moved from there.

    https://docs.openvino.ai/2025/model-server/ovms_docs_models_repository.html; a relative
    ``base_path`` is relative to ``config.json``. The plugin is set to float32, as the agreement was
    measured; on CPUs with bfloat16 it would use that by default.
    """
    place = folder / name
    (place / "1").mkdir(parents=True)
    for suffix in (".xml", ".bin"):
        model.with_suffix(suffix).rename(place / "1" / f"model{suffix}")
    _write_labels(place, exported)
    plugin = {"INFERENCE_PRECISION_HINT": "f32"}
    one = {"name": name, "base_path": name, "plugin_config": plugin}
    config = {"model_config_list": [{"config": one}]}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _write_labels(place: Path, exported: Exported) -> None:
    if exported.classes:
        lines = (utf8(" ".join(name.splitlines())) for name in exported.classes)
        (place / LABELS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

"""Finds the weight file in a folder saved by a framework."""

from __future__ import annotations

import re
from pathlib import Path

from resnetkit.errors import InputError
from resnetkit.formats.sharded import INDEX

#: Frameworks' names of weight files, preferred first.
_USUAL = (
    *("model.safetensors", "pytorch_model.bin", "pytorch_model.safetensors", "model.bin"),
    *("model_state.pt", "model.pt", "model.pth", "last.ckpt"),
)
_ENDINGS = (
    ".safetensors",
    ".pth",
    ".pt",
    ".bin",
    ".ckpt",
    ".tar",
    ".pkl",
    ".h5",
    ".keras",
    ".onnx",
)
#: Training state saved beside the weights (accelerate, transformers' Trainer).
_STATE = re.compile(
    r"^(optimizer|scheduler|scaler|sampler|random_states|rng_state|training_args|custom_checkpoint"
    r"|dl_state)"
)
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
#: Unsupported kinds of folders, by a characteristic file, and what to do.
_OTHERS = (
    ("saved_model.pb", "is a TensorFlow SavedModel; load it with Keras and save a .keras file, "
     "or convert it with tf2onnx"),
    (".metadata", "is a distributed torch checkpoint; merge it into one file with "
     "torch.distributed.checkpoint.format_utils.dcp_to_torch_save"),
    ("zero_to_fp32.py", "is a DeepSpeed checkpoint; merge it into one file with zero_to_fp32.py, "
     "which is in it"),
    ("_CHECKPOINT_METADATA", "is an Orbax checkpoint (Flax, JAX), which is not supported; "
     "export the network to ONNX"),
    ("checkpoint.index", "is a TensorFlow checkpoint; load it with Keras and save "
     "a .keras file"),
)  # fmt: skip


def weights_of(folder: Path) -> Path:
    """The weight file in a folder, or the index of its shards.

    Raises ``InputError`` if there is none, or several without a usual name.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    for sign, what in _OTHERS:
        if sign in names:
            raise InputError(f"{folder} {what}")
    indices = [name for name in names if name.endswith(INDEX)]
    if len(indices) == 1:
        return folder / indices[0]
    for name in _USUAL:
        if name in names:
            return folder / name
    found = [name for name in names if name.endswith(_ENDINGS) and not _STATE.match(name)]
    if len(found) == 1:
        return folder / found[0]
    for inner in (folder / "checkpoints", folder / "data"):  # Lightning's runs, MLflow's models
        if not found and inner.is_dir():
            return weights_of(inner)
    if any(name.endswith(".xml") for name in names):
        xml = next(name for name in names if name.endswith(".xml"))
        raise InputError(f"{folder} holds an OpenVINO model ({xml}); give that file")
    if not found:
        raise InputError(
            f"{folder} is a folder without a weight file; give one with model.safetensors, "
            "pytorch_model.bin, a *.index.json with its shards, or a single checkpoint"
        )
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    raise InputError(
        f"{folder} has {len(found)} weight files: {', '.join(found[:4])}{more}; give one of them"
    )


def index_of_shard(path: Path) -> Path | None:
    """The index beside a shard, if the file is one."""
    if not _SHARD.search(path.name):
        return None
    whole = path.parent / (_SHARD.sub(".", path.name) + INDEX)
    return whole if whole.is_file() else None

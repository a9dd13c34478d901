"""The parameter names of other projects' networks, from our descriptions."""

from __future__ import annotations

from resnetkit.architecture.layer import Pool
from resnetkit.architecture.network import Network


def timm_names(network: Network) -> dict[str, str]:
    """Our submodule paths to timm's, where they differ.

    timm keeps a deep stem in one Sequential (conv1.0, .1, .3, .4, .6) and its last norm as bn1,
    and has an Identity before the projection of a stage-1 shortcut of ResNet-D. A convolution in
    place of the stem's pool is maxpool.0, its norm maxpool.1.
    """
    names = {}
    if network.options.stem_pool == "conv":
        number = len(network.options.stem_widths) + 1
        names = {f"conv{number}": "maxpool.0", f"bn{number}": "maxpool.1"}
    if network.options.stem == "deep":
        names |= {
            "conv1": "conv1.0",
            "bn1": "conv1.1",
            "conv2": "conv1.3",
            "bn2": "conv1.4",
            "conv3": "conv1.6",
            "bn3": "bn1",
        }
    if network.options.shortcut == "avgpool+projection":
        for stage in network.stages:
            for block in stage.blocks:
                if block.shortcut and not isinstance(block.shortcut[0], Pool):
                    names[f"{block.name}.downsample.0"] = f"{block.name}.downsample.1"
                    names[f"{block.name}.downsample.1"] = f"{block.name}.downsample.2"
    return names


def renamed(state: dict, names: dict[str, str]) -> dict:
    """Another project's state under our names: every tensor used once."""
    ours = {theirs: our for our, theirs in names.items()}
    out = {}
    for key, value in state.items():
        path, _, tensor = key.rpartition(".")
        name = f"{ours.get(path, path)}.{tensor}"
        assert name not in out, f"{name} is given twice"
        out[name] = value
    return out

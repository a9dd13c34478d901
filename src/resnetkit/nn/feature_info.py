"""Channels and strides of feature maps, like timm's ``FeatureInfo``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resnetkit.architecture.network import Network
from resnetkit.errors import InputError


class FeatureInfo:
    """Channels, stride and module of each feature map, like timm's ``FeatureInfo``.

    Map 0 is that of the stem before its pool, map ``n`` that of stage ``n``. ``out_indices`` are
    the maps of a ``FeatureNet``, by default all.
    """

    def __init__(self, network: Network, out_indices: Sequence[int] | None = None) -> None:
        options, last = network.options, len(network.stages) - 1
        self.out_indices = tuple(range(last + 1) if out_indices is None else out_indices)
        if not self.out_indices or not all(0 <= index <= last for index in self.out_indices):
            raise InputError(
                f"out_indices is {self.out_indices}; {network.name} has the maps 0 to {last}"
            )
        assert options.stem_widths is not None
        assert options.output_stride is not None
        assert options.stem_conv_stride is not None
        strides = [options.stem_stride * 2**number for number in range(last)]
        stem = _before_pool(network)
        self.info = [
            {
                "num_chs": options.stem_widths[-1],
                "reduction": options.stem_conv_stride,
                "module": stem[-1],
            },
            *(
                {
                    "num_chs": channels,
                    "reduction": min(stride, options.output_stride),
                    "module": stage.path,
                }
                for channels, stride, stage in zip(
                    options.stage_outputs, strides, network.stages[1:], strict=True
                )
            ),
        ]

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Channels of one, several or all maps."""
        return self._of("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Stride, in input pixels."""
        return self._of("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """The child that outputs the map."""
        return self._of("module", idx)

    def get_dicts(self, idx: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """All values of several or all maps."""
        return [self.info[index] for index in (self.out_indices if idx is None else idx)]

    def __len__(self) -> int:
        return len(self.info)

    def _of(self, name: str, idx: int | Sequence[int] | None) -> Any:
        if isinstance(idx, int):
            return self.info[idx][name]
        return [found[name] for found in self.get_dicts(idx)]


def _before_pool(network: Network) -> list[str]:
    """The layers of the stem before its pool or the convolution that replaces it."""
    stride, names = 1, []
    for layer in network.stages[0].layers:
        stride *= 1 if layer.window is None else layer.window.stride
        if layer.kind in ("pool", "blur") or stride > (network.options.stem_conv_stride or 1):
            break
        names.append(layer.name)
    return names

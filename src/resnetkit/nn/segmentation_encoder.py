"""A network as an encoder of segmentation_models_pytorch."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from resnetkit.errors import InputError
from resnetkit.nn.resnet import FeatureNet, ResNet


def smp_encoder(module: ResNet) -> dict[str, Any]:
    """The entry of ``segmentation_models_pytorch.encoders.encoders`` for ``module``.

    Every model gets a copy of its weights; ``encoder_weights`` must be None. ``encoder_depth`` and
    ``encoder_output_stride`` work as for the library's own encoders, but the dilations of an output
    stride of 8 or 16 are torchvision's, which keep that of the previous stage in the first
    convolution. Raises ``ValueError`` for a network whose maps do not have strides 2, 4, 8, 16, 32,
    such as those for CIFAR.

    >>> import segmentation_models_pytorch as smp
    >>> module = resnetkit.build("resnet50d")
    >>> smp.encoders.encoders["ours"] = smp_encoder(module)
    >>> model = smp.Unet("ours", encoder_weights=None, classes=3)
    >>> model(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 3, 64, 64])
    """
    strides = _strides(module)
    if strides != [2, 4, 8, 16, 32]:
        raise InputError(
            f"the maps of {module.network.name} have strides {strides}; an encoder needs "
            "2, 4, 8, 16, 32; give a network for ImageNet, without output_stride"
        )

    def encoder(depth: int, output_stride: int) -> SegmentationEncoder:
        return SegmentationEncoder(module, depth=depth, output_stride=output_stride)

    return {"encoder": encoder, "pretrained_settings": {}, "params": {}}


class SegmentationEncoder(nn.Module):
    """``(N, C, H, W) ->`` the image and ``depth`` maps of strides 2, 4, 8, ..., in order.

    It has a copy of the weights of ``module``. Children have the same names as in ``ResNet``.
    """

    def __init__(self, module: ResNet, *, depth: int = 5, output_stride: int = 32) -> None:
        super().__init__()
        if not 1 <= depth <= 5:
            raise InputError(f"depth is {depth}; it must be from 1 to 5", field="depth")
        network = module.network.override(output_stride=output_stride)
        copied = ResNet(network)
        copied.load_state_dict(module.state_dict())
        self.network = network
        self.features = FeatureNet(copied, range(depth))
        self.out_channels = [network.options.in_chans, *self.features.feature_info.channels()]
        self.output_stride = min(output_stride, 2**depth)

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:
        """Called by the library. Raises ``ValueError`` for a number other than the network's."""
        in_chans = self.network.options.in_chans
        if in_channels != in_chans:
            raise InputError(
                f"in_channels is {in_channels}, but the encoder has {in_chans}; build it with this "
                "in_chans",
                field="in_channels",
            )

    def make_dilated(self, output_stride: int) -> None:
        """Called by the library; the network already has this ``output_stride``."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """The image and the maps."""
        return [x, *self.features(x)]


def _strides(module: ResNet) -> list[int]:
    strides: list[int] = module.feature_info.reduction()
    return strides

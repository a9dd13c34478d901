"""Recognizes architectures that are not supported, by their tensor names."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Patterns of tensor names and the family they indicate. Those inside a ResNet come first.
_SIGNS: tuple[tuple[str, str], ...] = (
    (r"(^|[./])attnpool\.positional_embedding$",
     "CLIP's ResNet, with different blocks and last pool"),
    (r"layer\d\.\d+\.convs\.\d+\.weight$", "a Res2Net, with split 3x3 convolutions"),
    (r"layer\d\.\d+\.conv2\.(fc1|bn0|bn1|radix)\b", "a ResNeSt, with split attention"),
    (r"layer\d\.\d+\.conv\d\.(paths|attn)\.", "an SKNet, with selective kernels"),
    (r"layer\d\.\d+\.(cbam|ca|sa|ChannelGate|SpatialGate)\.", "a ResNet with CBAM's attention"),
    (r"(^|[./])(ca|sa|bam\d?)\d?\.(fc|fc1|conv|conv1|channel_att|spatial_att|mlp|gate\w*)\b",
     "a ResNet with attention between its stages (CBAM, BAM)"),
    (r"layer\d\.\d+\.(gc|context_block|nl|non_local)\.", "a ResNet with global context blocks"),
    (r"layer\d\.\d+\.(bn1\.IN|bn1\.BN|IN)\.", "an IBN-Net, with instance norms"),
    (r"layer\d\.\d+\.conv2_offset\.|layer\d\.\d+\.conv2\.(offset|conv_offset)\.",
     "a ResNet with deformable convolutions"),
    (r"\._(mean|variance)$", "a Paddle file; export the network to ONNX with paddle2onnx"),
    (r"(weight_orig|weight_mask)$", "a network pruned by torch; call prune.remove on its layers"),
    (r"(activation_post_process|weight_fake_quant)\.", "a network in the middle of "
     "quantisation-aware training; convert it, or give the file from before"),
    (r"layer\d\.\d+\.conv1\.0\.(weight|bias)$", "a network fused for quantisation; give the file "
     "from before fuse_model(), or from after convert()"),
    (r"(^|[./])(bit\.)?embedder\.convolution\.weight$|stages\.0\.blocks\.0\.norm1\.weight$"
     r"|root_block[./]standardized_conv2d", "a ResNet v2 (BiT), whose norms stand before the "
     "convolutions"),
    (r"(^|[./])trunk_output\.block1\.|(^|[./])s1\.b1\.conv1\.", "a RegNet"),
    (r"(^|[./])body\.layer1\.0\.conv1\.(0|conv)\.weight$", "a TResNet"),
    (r"stages\.0\.0\.conv1_1x1\.conv\.weight$", "a GCResNet or another of timm's ByobNets"),
    (r"stages\.0\.(conv_down|conv_exp)\.conv\.weight$", "a CSPResNet or similar"),
    (r"stage2\.0\.branches\.0\.", "an HRNet"),
    (r"denseblock1\.denselayer1\.", "a DenseNet"),
    (r"(^|[./])cls_token$|(^|[./])class_token$|blocks\.0\.attn\.qkv\.", "a vision transformer"),
    (r"(relative_position_bias_table)$", "a Swin transformer"),
    (r"stages\.0\.blocks\.0\.conv_dw\.|features\.1\.0\.layer_scale$|dwconv\.weight$", "a ConvNeXt"),
    (r"Mixed_5b\.|inception3a\.", "an Inception network"),
    (r"_blocks\.0\._depthwise_conv\.|blocks\.0\.0\.conv_dw\.|features\.1\.conv\.0\.0\.weight$"
     r"|features\.1\.0\.block\.0\.0\.weight$", "an EfficientNet or MobileNet"),
    (r"(^|[./])model\.22\.cv2\.|(^|[./])model\.0\.conv\.weight$", "a YOLO network"),
)  # fmt: skip


def family(names: Iterable[str]) -> str | None:
    """The unsupported architecture that these tensor names belong to, if any."""
    listed = list(names)
    lines = "\n".join(listed)  # one search for all of them
    for sign, what in _SIGNS:
        if re.search(sign, lines, re.MULTILINE):
            return what
    heads = ("classifier.6.weight", "pre_logits.fc1.weight")
    if "features.0.weight" in listed and any(name in listed for name in heads):
        return "a VGG network or AlexNet"
    return None

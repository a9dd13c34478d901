"""The catalogue entries, by family; depths and widths are defined only here.

An entry is a name, the options that differ from the defaults of ``Options`` (a torchvision-style
ResNet-50), a line of description, and a line on its source.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from resnetkit.architecture.network import Network
from resnetkit.architecture.options import Options

_RESNET = "He et al. 2015, arXiv:1512.03385"
_V15 = f"{_RESNET}; stride as in torchvision"
_BAG = "He et al. 2019, arXiv:1812.01187"
_TIMM = "timm (pytorch-image-models), resnet.py"
_SE = "Hu et al. 2018, arXiv:1709.01507"
_RESNEXT = "Xie et al. 2017, arXiv:1611.05431"
_WIDE = "Zagoruyko & Komodakis 2016, arXiv:1605.07146; torchvision"
_ECA = f"Wang et al. 2019, arXiv:1910.03151; {_TIMM}"
_BLUR = f"Zhang 2019, arXiv:1904.11486; {_TIMM}"
_RS = f"Bello et al. 2021, arXiv:2103.07579; {_TIMM}"
_PRUNED = f"Aflalo et al. 2020, arXiv:2002.08258; {_TIMM}"
_NOTES = "the study notes on ResNet-50 (docs/notes.md)"

_DEPTHS = {
    10: (1, 1, 1, 1),
    14: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    26: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    269: (3, 30, 48, 8),
}
_BASIC = {10, 18, 34}

#: Outputs of each stage, and of the first and second convolution of each block.
_PRUNED_WIDTHS = {
    50: (
        (19, 171, 818, 2022),
        "47/18 52/22 64/35 85/37 107/80 120/85 125/87 198/126 255/232 256/233 253/235 256/225 "
        "256/239 492/237 512/500 512/490",
    ),
    101: (
        (26, 142, 278, 2042),
        "45/25 53/20 60/27 81/24 93/49 102/54 122/78 101/25 239/160 234/156 250/176 253/191 "
        "251/175 230/128 244/154 244/159 238/97 244/149 253/181 245/119 255/216 256/201 253/149 "
        "254/141 256/190 256/217 255/156 256/155 256/232 256/214 499/289 512/512 512/502",
    ),
}

_Choices = dict[str, Any]
_DEEP: _Choices = {"stem": "deep", "stem_widths": (32, 32, 64)}
_DEEP_WIDE: _Choices = {"stem": "deep", "stem_widths": (64, 64, 128)}
_D: _Choices = {**_DEEP, "shortcut": "avgpool+projection"}
_T: _Choices = {"stem": "deep", "stem_widths": (24, 32, 64), "shortcut": "avgpool+projection"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A catalogue entry; ``options`` are those that differ from the defaults."""

    name: str
    about: str
    source: str
    input_size: int = 224
    options: MappingProxyType[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def network(self) -> Network:
        """The described network."""
        return Network(
            name=self.name,
            options=Options(**self.options),
            input_size=self.input_size,
            about=self.about,
            source=self.source,
        )


def _entry(
    name: str, depth: int, about: str, source: str, *, input_size: int = 224, **options: Any
) -> Entry:
    block = "basic" if depth in _BASIC else "bottleneck"
    options = {"depths": _DEPTHS[depth], "block": block, **options}
    return Entry(
        name=name,
        about=about,
        source=source,
        input_size=input_size,
        options=MappingProxyType(options),
    )


def _plain() -> Iterator[Entry]:
    for depth in (18, 34):
        yield _entry(f"resnet{depth}", depth, f"ResNet-{depth}, two 3x3 a block", _RESNET)
    yield _entry("resnet26", 26, "ResNet-26, bottlenecks 2,2,2,2", _TIMM)
    for depth in (50, 101, 152):
        yield _entry(f"resnet{depth}", depth, f"ResNet-{depth} v1.5, stride on the 3x3", _V15)
    yield _entry("resnet200", 200, "ResNet-200, bottlenecks 3,24,36,3", _TIMM)
    for depth in (50, 101, 152):
        about = f"ResNet-{depth} v1, stride on the first 1x1"
        yield _entry(f"resnet{depth}_v1", depth, about, _RESNET, stride_on="1x1")
    for depth in (50, 101, 152):
        about = f"ResNet-{depth} v1 with Caffe's max-pool (no padding, rounded up)"
        source = f"{_RESNET}; the authors' Caffe networks"
        yield _entry(
            f"resnet{depth}_caffe", depth, about, source, stride_on="1x1", stem_pool="caffe"
        )
    yield _entry(
        "resnet50_gn",
        50,
        "ResNet-50 with group norms of 32 groups",
        f"Wu & He 2018, arXiv:1803.08494; {_TIMM}",
        norm="group",
    )
    yield _entry(
        "resnet50_keras",
        50,
        "ResNet-50 v1 of Keras applications: biased convolutions, epsilon 1.001e-5",
        "keras.applications.ResNet50",
        stride_on="1x1",
        conv_bias=True,
        norm_epsilon=1.001e-5,
        norm_momentum=0.01,
    )


def _notes() -> Iterator[Entry]:
    for depth in (50, 101, 152):
        yield _entry(
            f"resnet{depth}_deep",
            depth,
            f"ResNet-{depth} with three 3x3 in the stem and AvgPool(7), the notes' code",
            f"{_NOTES}, their printed code; semseg",
            **_DEEP_WIDE,
            head_pool="7x7",
        )
    yield _entry(
        "resnet50_notes",
        50,
        "the notes' own arithmetic: no padding in the stem, sizes rounded up, no classes",
        f"{_NOTES}, their arithmetic",
        input_size=473,
        **_DEEP_WIDE,
        stem_padding=0,
        rounding="ceil",
        head_pool="7x7",
        num_classes=None,
    )


def _tricks() -> Iterator[Entry]:
    for depth in (50, 101, 152):
        about = f"ResNet-{depth}-C: three 3x3 in the stem (32,32,64)"
        yield _entry(f"resnet{depth}c", depth, about, _BAG, **_DEEP)
    for depth in (18, 26, 34, 50, 101, 152, 200):
        about = f"ResNet-{depth}-D: deep stem, average pool in the shortcut"
        yield _entry(f"resnet{depth}d", depth, about, _BAG, **_D)
    for depth in (50, 101, 152):
        about = f"ResNet-{depth}-S: three 3x3 in the stem (64,64,128)"
        yield _entry(f"resnet{depth}s", depth, about, _TIMM, **_DEEP_WIDE)
    for depth in (10, 14, 26, 50):
        about = f"ResNet-{depth}-T: tiered deep stem (24,32,64), average pool in the shortcut"
        yield _entry(f"resnet{depth}t", depth, about, _TIMM, **_T)


def _wide_and_next() -> Iterator[Entry]:
    for depth in (50, 101):
        about = f"ResNet-{depth} with twice as wide 3x3 convolutions"
        yield _entry(f"wide_resnet{depth}_2", depth, about, _WIDE, width_per_group=128)
    for depth, groups, width in (
        (50, 32, 4),
        (101, 32, 4),
        (101, 32, 8),
        (101, 32, 16),
        (101, 32, 32),
        (101, 64, 4),
    ):
        name = f"resnext{depth}_{groups}x{width}d"
        about = f"ResNeXt-{depth}, {groups} groups of width {width}"
        yield _entry(name, depth, about, _RESNEXT, groups=groups, width_per_group=width)
    about = "ResNeXt-50-D, 32 groups of width 4"
    yield _entry(
        "resnext50d_32x4d", 50, about, f"{_RESNEXT}; {_TIMM}", **_D, groups=32, width_per_group=4
    )


def _squeezed() -> Iterator[Entry]:
    se = {"squeeze_excitation": 16}
    for depth in (18, 34, 50, 101, 152):
        about = f"ResNet-{depth} with squeeze-excitation"
        yield _entry(f"seresnet{depth}", depth, about, _SE, **se)
    about = "ResNet-50-T with squeeze-excitation"
    yield _entry("seresnet50t", 50, about, f"{_SE}; {_TIMM}", **_T, **se)
    for depth in (152, 200, 269):
        about = f"ResNet-{depth}-D with squeeze-excitation"
        yield _entry(f"seresnet{depth}d", depth, about, f"{_SE}; {_TIMM}", **_D, **se)
    variants: tuple[tuple[int, str, int, int, _Choices], ...] = (
        (26, "d", 32, 4, _D),
        (26, "t", 32, 4, _T),
        (50, "", 32, 4, {}),
        (101, "", 32, 4, {}),
        (101, "", 32, 8, {}),
        (101, "", 64, 4, {}),
        (101, "d", 32, 8, _D),
    )
    for depth, letter, groups, width, tricks in variants:
        kind = f"-{letter.upper()}" if letter else ""
        yield _entry(
            f"seresnext{depth}{letter}_{groups}x{width}d",
            depth,
            f"ResNeXt-{depth}{kind}, {groups} groups of width {width}, with squeeze-excitation",
            f"{_SE}; {_TIMM}",
            **tricks,
            **se,
            groups=groups,
            width_per_group=width,
        )


def _attentive() -> Iterator[Entry]:
    eca: _Choices = {"efficient_attention": True}
    for depth in (26, 50):
        about = f"ResNet-{depth}-T with efficient channel attention"
        yield _entry(f"ecaresnet{depth}t", depth, about, _ECA, **_T, **eca)
    for depth in (50, 101, 200, 269):
        about = f"ResNet-{depth}-D with efficient channel attention"
        yield _entry(f"ecaresnet{depth}d", depth, about, _ECA, **_D, **eca)
    for depth, (outputs, widths) in _PRUNED_WIDTHS.items():
        yield _entry(
            f"ecaresnet{depth}d_pruned",
            depth,
            f"ResNet-{depth}-D with efficient channel attention, channels pruned away",
            _PRUNED,
            **_D,
            **eca,
            conv_widths=_pruned(_DEPTHS[depth], outputs, widths),
        )
    yield _entry(
        "ecaresnetlight",
        50,
        "ResNet-50 with blocks 1,1,11,3, average pool in the shortcut, efficient channel attention",
        _ECA,
        depths=(1, 1, 11, 3),
        shortcut="avgpool+projection",
        **eca,
    )
    for depth in (26, 50):
        about = f"ResNeXt-{depth}-T, 32 groups of width 4, with efficient channel attention"
        name = f"ecaresnext{depth}t_32x4d"
        yield _entry(name, depth, about, _ECA, **_T, **eca, groups=32, width_per_group=4)


def _pruned(depths: tuple[int, ...], outputs: tuple[int, ...], widths: str) -> tuple[int, ...]:
    """Output channels of every convolution of the bottlenecks."""
    last = (width for width, depth in zip(outputs, depths, strict=True) for _ in range(depth))
    blocks = zip((block.split("/") for block in widths.split()), last, strict=True)
    return tuple(width for first, end in blocks for width in (*map(int, first), end))


def _anti_aliased() -> Iterator[Entry]:
    blur: _Choices = {"anti_alias": "blur"}
    for depth in (18, 50):
        about = f"ResNet-{depth} with blurs in place of strides"
        yield _entry(f"resnetblur{depth}", depth, about, _BLUR, **blur)
    for depth in (50, 101):
        about = f"ResNet-{depth}-D with blurs in place of strides"
        yield _entry(f"resnetblur{depth}d", depth, about, _BLUR, **_D, **blur)
    average: _Choices = {"anti_alias": "average"}
    about = "ResNet-50 with average pools in place of strides"
    yield _entry("resnetaa50", 50, about, _TIMM, **average)
    for depth in (34, 50, 101):
        about = f"ResNet-{depth}-D with average pools in place of strides"
        yield _entry(f"resnetaa{depth}d", depth, about, _TIMM, **_D, **average)
    se: _Choices = {"squeeze_excitation": 16}
    about = "ResNet-50-D with squeeze-excitation, average pools in place of strides"
    yield _entry("seresnetaa50d", 50, about, f"{_SE}; {_TIMM}", **_D, **average, **se)
    wide: _Choices = {"groups": 32, "width_per_group": 8}
    variants: tuple[tuple[int, tuple[int, ...], _Choices], ...] = (
        (101, (3, 4, 23, 3), _D),
        (201, (3, 24, 36, 4), {**_D, **_DEEP_WIDE}),
    )
    for depth, depths, tricks in variants:
        yield _entry(
            f"seresnextaa{depth}d_32x8d",
            101,
            f"ResNeXt-{depth}-D, 32 groups of width 8, with squeeze-excitation, "
            "average pools in place of strides",
            f"{_SE}; {_TIMM}",
            **{**tricks, **average, **se, **wide, "depths": depths},
        )


def _revisited() -> Iterator[Entry]:
    depths = {270: (4, 29, 53, 4), 350: (4, 36, 72, 4), 420: (4, 44, 87, 4)}
    for depth in (50, 101, 152, 200, 270, 350, 420):
        yield Entry(
            name=f"resnetrs{depth}",
            about=f"ResNet-RS-{depth}: ResNet-D, a strided convolution for the stem's pool, "
            "squeeze-excitation by 4",
            source=_RS,
            options=MappingProxyType(
                {
                    "depths": depths.get(depth) or _DEPTHS[depth],
                    **_D,
                    "stem_pool": "conv",
                    "squeeze_excitation": 4,
                }
            ),
        )
    yield _entry(
        "senet154",
        152,
        "SENet-154: ResNeXt-152 of 64 groups with squeeze-excitation, a deep stem, half as wide "
        "first convolutions and 3x3 projections",
        f"{_SE}; {_TIMM}",
        **_DEEP_WIDE,
        groups=64,
        width_per_group=4,
        reduce_first=2,
        shortcut_kernel=3,
        squeeze_excitation=16,
    )
    yield Entry(
        name="test_resnet",
        about="a tiny ResNet-D for tests, basic blocks and bottlenecks",
        source=_TIMM,
        input_size=160,
        options=MappingProxyType(
            {
                "depths": (1, 1, 1, 1),
                "blocks": ("basic", "basic", "bottleneck", "basic"),
                "widths": (32, 48, 48, 96),
                **_D,
                "stem_widths": (16, 16, 32),
            }
        ),
    )


def _cifar() -> Iterator[Entry]:
    for depth in (20, 32, 44, 56, 110):
        yield Entry(
            name=f"resnet{depth}",
            about=f"ResNet-{depth} for 32x32 images: 3x3 stem, three stages, option A shortcuts",
            source=f"{_RESNET}, section 4.2 (CIFAR-10)",
            input_size=32,
            options=MappingProxyType(
                {
                    "depths": ((depth - 2) // 6,) * 3,
                    "block": "basic",
                    "widths": (16, 32, 64),
                    "stem": "3x3",
                    "stem_widths": (16,),
                    "shortcut": "pad",
                    "num_classes": 10,
                }
            ),
        )


FAMILIES = (
    _plain,
    _notes,
    _tricks,
    _wide_and_next,
    _squeezed,
    _attentive,
    _anti_aliased,
    _revisited,
    _cifar,
)

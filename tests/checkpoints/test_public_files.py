"""Files of weights as people have them: each is read as its author's network, or refused.

What is computed is compared with the module that the weights were taken from, by its own code.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import os
import pickle
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import timm
import torch
import torchvision
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

import resnetkit
from resnetkit.checkpoints.identification import identify
from resnetkit.cli.main import main
from resnetkit.errors import AssumptionWarning, InputError

models, Bottleneck = torchvision.models, torchvision.models.resnet.Bottleneck
State = dict[str, Any]


def pixels(channels: int = 3, size: int = 64) -> Tensor:
    count = channels * size * size
    return (
        (torch.arange(count, dtype=torch.float64) * 0.37)
        .sin()
        .float()
        .view(1, channels, size, size)
    )


def trained(net: nn.Module, seed: int = 0) -> Any:
    """Weights, statistics and scales that are not those of a fresh network, for evaluation."""
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                size = module.num_features
                module.running_mean.copy_(torch.rand(size, generator=chance) * 0.2 - 0.1)
                module.running_var.copy_(torch.rand(size, generator=chance) + 0.5)
                module.weight.copy_(torch.rand(size, generator=chance) * 0.5 + 0.5)
    return net.eval()


def answered(bundle: resnetkit.Bundle, given: Tensor) -> Tensor:
    with torch.inference_mode():
        return bundle.module()(given).flatten(1)


def loaded(path: Path, **told: Any) -> tuple[resnetkit.Bundle, str]:
    """The bundle, and what was said about it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AssumptionWarning)
        bundle = resnetkit.load(path, **told)
    return bundle, " ".join(str(warning.message) for warning in caught)


def same(bundle: resnetkit.Bundle, net: Callable[[Tensor], Tensor], channels: int = 3) -> bool:
    given = pixels(channels)
    with torch.inference_mode():
        wanted = net(given).flatten(1)
    found = answered(bundle, given)
    assert found.shape == wanted.shape
    return bool((found - wanted).abs().max() <= 1e-5 * wanted.abs().max())


def under(prefix: str, state: Mapping[str, Any]) -> State:
    return {prefix + name: value for name, value in state.items()}


torch.manual_seed(0)
SMALL = trained(models.resnet18(num_classes=10))
STATE: State = SMALL.state_dict()
BODY = {name: value for name, value in STATE.items() if not name.startswith("fc.")}
LARGE = trained(models.ResNet(Bottleneck, [1, 1, 1, 1], num_classes=12), 1)
LARGE_BODY = {k: v for k, v in LARGE.state_dict().items() if not k.startswith("fc.")}
LINEAR = {"weight": STATE["fc.weight"], "bias": STATE["fc.bias"]}


def features(net: Any) -> nn.Module:
    return nn.Sequential(*list(net.children())[:-1], nn.Flatten()).eval()


def cifar(pool: nn.Module, stride: int = 1) -> Any:
    net = models.resnet18(num_classes=10)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, stride, 1, bias=False), pool
    return trained(net, 3)


def renamed(net: Any, **words: str) -> State:
    found = net.state_dict()
    for old, new in words.items():
        found = {name.replace(old, new): value for name, value in found.items()}
    return dict(found)


def with_head(head: nn.Module) -> Any:
    net = models.resnet18()
    net.fc = head
    return trained(net, 4)


KEPT, GONE = models.resnet18().maxpool, nn.Identity()
KUANGLIU, KEEPS_POOL, STRIDED = cifar(GONE), cifar(KEPT), cifar(KEPT, 2)
DROPOUT = with_head(nn.Sequential(nn.Dropout(0.5), nn.Linear(512, 7)))
MLP = with_head(nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 7)))
CHILDREN = nn.Sequential(*list(SMALL.children())[:-1]).state_dict()
UNPOOLED = nn.Sequential(
    *(m for m in KUANGLIU.children() if not isinstance(m, nn.Identity | nn.Linear))
).state_dict()
FASTAI = nn.Sequential(
    nn.Identity(),
    nn.Flatten(),
    nn.BatchNorm1d(1024),
    nn.Dropout(),
    nn.Linear(1024, 512),
    nn.ReLU(),
    nn.BatchNorm1d(512),
    nn.Dropout(),
    nn.Linear(512, 4),
).state_dict()
NORMALISER = {"new_mean": torch.full((3, 1, 1), 0.4), "new_std": torch.full((3, 1, 1), 0.2)}

#: What is saved, the network, the module that answers the same, and what `load` is told.
FILES: dict[str, tuple[Any, str, Callable[[Tensor], Tensor], dict[str, Any]]] = {
    "Lightning": (
        {
            "state_dict": {
                **under("model.", STATE),
                "acc.tp": torch.zeros(1),
                "loss_fn.weight": torch.ones(10),
            },
            "hyper_parameters": {"lr": 0.1},
            "epoch": 1,
            "optimizer_states": [],
        },
        "resnet18",
        SMALL,
        {},
    ),
    "siblings": (
        {
            "state_dict": STATE,
            "history": np.arange(3.0),
            "rng_state": torch.get_rng_state(),
            "counts": collections.defaultdict(int, a=1),
            "date": datetime.datetime(2024, 1, 2),
            "args": argparse.Namespace(lr=0.1),
            "path": Path("x"),
        },
        "resnet18",
        SMALL,
        {},
    ),
    "an average in a callback": (
        {
            "state_dict": under("model.", STATE),
            "callbacks": {
                "SWA": {
                    "average_model_state": under("model.", {k: v + 1 for k, v in STATE.items()})
                }
            },
        },
        "resnet18",
        SMALL,
        {},
    ),
    "dropout before the classifier": (DROPOUT.state_dict(), "resnet18", DROPOUT, {}),
    "another name of the classifier": (
        {**under("module.", BODY), **under("module.classifier.", LINEAR)},
        "resnet18",
        SMALL,
        {},
    ),
    "last_linear": ({**BODY, **under("last_linear.", LINEAR)}, "resnet18", SMALL, {}),
    "a head beside the backbone": (
        {"model": {**under("backbone.", BODY), **under("head.fc1.", LINEAR)}},
        "resnet18",
        SMALL,
        {},
    ),
    "a head that is named": (
        {**BODY, **under("my_embedding.", LINEAR)},
        "resnet18",
        SMALL,
        {"head": "my_embedding"},
    ),
    "several layers": (MLP.state_dict(), "resnet18", features(MLP), {}),
    "a neck": (
        {
            **BODY,
            "bottleneck.weight": torch.ones(512),
            "bottleneck.bias": torch.ones(512),
            "classifier.weight": torch.ones(5, 512),
        },
        "resnet18",
        features(SMALL),
        {},
    ),
    "children": (CHILDREN, "resnet18", features(SMALL), {}),
    "children below a name, and a classifier": (
        {**under("features.", CHILDREN), **under("fc.", LINEAR)},
        "resnet18",
        SMALL,
        {},
    ),
    "children without the pool": (under("f.", UNPOOLED), "custom", features(KUANGLIU), {}),
    "fastai": (
        {"model": {**under("0.", CHILDREN), **under("1.", FASTAI)}, "opt": {"hypers": []}},
        "resnet18",
        features(SMALL),
        {},
    ),
    "pytorch-cifar": (
        {
            "net": under("module.", renamed(KUANGLIU, downsample="shortcut", fc="linear")),
            "acc": 95.0,
        },
        "custom",
        KUANGLIU,
        {},
    ),
    "shortcut for downsample": (renamed(LARGE, downsample="shortcut"), "custom", LARGE, {}),
    "a 3x3 with the pool kept": (
        KEEPS_POOL.state_dict(),
        "custom",
        KEEPS_POOL,
        {"stem_pool": "padded"},
    ),
    "a 3x3 with stride and pool": (
        STRIDED.state_dict(),
        "custom",
        STRIDED,
        {"stem_pool": "padded", "stem_conv_stride": 2},
    ),
    "a 3x3 alone": (KUANGLIU.state_dict(), "custom", KUANGLIU, {}),
    "self-supervised": (
        {
            **under("module.", LARGE_BODY),
            "module.projection_head.0.weight": torch.ones(16, 2048),
            "module.prototypes.weight": torch.ones(30, 16),
        },
        "custom",
        features(LARGE),
        {},
    ),
    "MoCo v3": (
        {
            **under("module.base_encoder.", LARGE_BODY),
            "module.base_encoder.fc.0.weight": torch.ones(16, 2048),
            **under("module.momentum_encoder.", LARGE_BODY),
        },
        "custom",
        features(LARGE),
        {},
    ),
    "twice": (
        {"model": {**under("module.model.", STATE), **under("module.attacker.model.", STATE)}},
        "resnet18",
        SMALL,
        {},
    ),
    "wrapped inside": (
        renamed(SMALL, **{"layer1.0.": "layer1.0._orig_mod."}),
        "resnet18",
        SMALL,
        {},
    ),
    "checkpointed inside": (
        under("module.", renamed(SMALL, **{"layer3.": "layer3._checkpoint_wrapped_module."})),
        "resnet18",
        SMALL,
        {},
    ),
    "counters of one number": (
        {k: v.view(1) if v.ndim == 0 else v for k, v in STATE.items()},
        "resnet18",
        SMALL,
        {},
    ),
    "an operation counter": (
        {**STATE, "layer1.0.conv1.total_ops": torch.zeros(1), "total_params": torch.zeros(1)},
        "resnet18",
        SMALL,
        {},
    ),
    "a whole module": (SMALL, "resnet18", SMALL, {}),
    "a whole module in a dictionary": (
        {"net": nn.DataParallel(LARGE), "epoch": 1},
        "custom",
        LARGE,
        {},
    ),
    "a whole module with the pool kept": (KEEPS_POOL, "custom", KEEPS_POOL, {}),
    "a whole dilated module": (
        trained(models.resnet50(replace_stride_with_dilation=[False, True, True], num_classes=3)),
        "resnet50",
        ...,
        {},
    ),
    "a whole module with another epsilon": (
        trained(models.resnet18(norm_layer=partial(nn.BatchNorm2d, eps=1e-2))),
        "resnet18",
        ...,
        {},
    ),
    "timm's whole module": (
        trained(timm.create_model("resnet26d", num_classes=3)),
        "resnet26d",
        ...,
        {},
    ),
    "timm's whole module against aliasing": (
        trained(timm.create_model("resnetblur18", num_classes=3)),
        "resnetblur18",
        ...,
        {},
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_people_have(name: str, tmp_path: Path) -> None:
    content, network, net, told = FILES[name]
    torch.save(content, tmp_path / "net.pth")
    bundle, _ = loaded(tmp_path / "net.pth", **told)
    assert bundle.network.name == network
    assert same(bundle, content if net is ... else net)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_become_single(dtype: torch.dtype, tmp_path: Path) -> None:
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in STATE.items()}
    torch.save(state, tmp_path / "net.pth")
    bundle, said = loaded(tmp_path / "net.pth")
    assert f"102 {str(dtype).removeprefix('torch.')}" in said
    net = models.resnet18(num_classes=10)
    net.load_state_dict(state)
    assert same(bundle, net.eval())


@pytest.mark.filterwarnings(
    "ignore:.torch.jit.:DeprecationWarning", "ignore:.torch.jit.:FutureWarning"
)
@pytest.mark.parametrize("kind", ["scripted", "traced"])
def test_torchscript_is_read_without_its_program(kind: str, tmp_path: Path) -> None:
    compiled = torch.jit.script(SMALL) if kind == "scripted" else torch.jit.trace(SMALL, pixels())
    compiled.save(str(tmp_path / "net.pt"))
    assert same(loaded(tmp_path / "net.pt")[0], SMALL)


def test_an_exported_program_is_read(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(SMALL, (pixels(),)), tmp_path / "net.pt2")
    bundle, _ = loaded(tmp_path / "net.pt2")
    assert bundle.origin["container"] == "torch-export"
    assert same(bundle, SMALL)


@pytest.mark.filterwarnings("ignore")
def test_quantised_weights_are_made_of_their_scales(tmp_path: Path) -> None:
    net = trained(models.quantization.resnet18(num_classes=10, quantize=False))
    net.fuse_model()
    plain = [(name, value.clone()) for name, value in net.state_dict().items()]
    net.qconfig = torch.ao.quantization.get_default_qconfig("fbgemm")
    torch.ao.quantization.prepare(net, inplace=True)
    net(pixels())
    torch.save(net.state_dict(), tmp_path / "observed.pth")
    with pytest.raises(InputError, match="in the middle of quantisation-aware training"):
        resnetkit.load(tmp_path / "observed.pth")
    torch.save(dict(plain), tmp_path / "fused.pth")
    with pytest.raises(InputError, match="fused for quantisation"):
        resnetkit.load(tmp_path / "fused.pth")
    state = torch.ao.quantization.convert(net).state_dict()
    torch.save(state, tmp_path / "net.pth")
    bundle, said = loaded(tmp_path / "net.pth")
    assert "21 tensors are quantised" in said
    for name in ("conv1", "layer2.0.downsample.0"):
        assert torch.equal(bundle.arrays[f"{name}.weight"], state[f"{name}.weight"].dequantize())
    weight, bias = state["fc._packed_params._packed_params"]
    assert torch.equal(bundle.arrays["fc.weight"], weight.dequantize())
    assert torch.equal(bundle.arrays["fc.bias"], bias.detach())


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_any_number_of_channels(channels: int, tmp_path: Path) -> None:
    net = models.resnet18(num_classes=2)
    net.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    torch.save(trained(net).state_dict(), tmp_path / "net.pth")
    bundle, _ = loaded(tmp_path / "net.pth")
    assert same(bundle, net, channels)
    if channels == 1:
        return
    bundle.save(tmp_path / "net.safetensors")
    image = tmp_path / "a.png"
    PIL.Image.new("RGB", (8, 8)).save(image)
    with pytest.raises(
        InputError, match=f"takes {channels} channels, .* a preprocess of {channels}"
    ):
        resnetkit.load(tmp_path / "net.safetensors").predict(image)


def test_a_normaliser_in_the_file_is_used(tmp_path: Path) -> None:
    twice = {**under("model.", STATE), **under("attacker.model.", STATE)}
    more = {**under("normalizer.", NORMALISER), **under("attacker.normalize.", NORMALISER)}
    torch.save({"model": under("module.", {**twice, **more})}, tmp_path / "net.pth")
    bundle, _ = loaded(tmp_path / "net.pth")
    assert bundle.preprocess.mean == pytest.approx([0.4] * 3)
    assert bundle.preprocess.std == pytest.approx([0.2] * 3)
    assert "preprocess" not in bundle.origin["assumed"]
    detectron = {
        "pixel_mean": torch.tensor([103.53, 116.28, 123.675]).view(3, 1, 1),
        "pixel_std": torch.ones(3, 1, 1),
    }
    torch.save({**under("net.", STATE), **detectron}, tmp_path / "net.pth")
    bundle, _ = loaded(tmp_path / "net.pth")
    assert (bundle.preprocess.channels, bundle.preprocess.divisor) == ("BGR", 1.0)


def test_a_choice_is_told_in_the_words_of_the_caller(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {k: v * 1.01 if v.is_floating_point() else v for k, v in LARGE_BODY.items()}
    torch.save(
        {
            "teacher": {
                **under("backbone.", LARGE_BODY),
                "head.mlp.0.weight": torch.ones(16, 2048),
            },
            "student": {
                **under("module.backbone.", other),
                "module.head.0.weight": torch.ones(2, 9),
            },
        },
        tmp_path / "net.pth",
    )
    with pytest.raises(InputError) as caught:
        resnetkit.load(tmp_path / "net.pth")
    assert "2 networks, under 'student/module.backbone.' (102 tensors), 'teacher/backbone.'" in str(
        caught.value
    )
    assert "prefix='teacher/backbone.'" in str(caught.value)
    assert main(["identify", str(tmp_path / "net.pth")]) == 2
    told = capsys.readouterr().err
    assert "--prefix teacher/backbone." in told
    assert "prefix=" not in told
    for prefix in ("teacher/backbone.", "teacher/backbone", "teacher/", "teacher"):
        bundle, _ = loaded(tmp_path / "net.pth", prefix=prefix)
        assert same(bundle, features(LARGE))
        assert bundle.origin["left_out"] == ["teacher/head.mlp.0.weight"]


#: What cannot be read, and the words of the one line that says so.
REFUSED: dict[str, tuple[Any, list[str]]] = {
    "a surplus": ({**STATE, "layer3.0.conv9.weight": torch.zeros(3)}, ["layer3.0.conv9.weight"]),
    "a missing one": (
        {k: v for k, v in STATE.items() if k != "layer2.1.bn2.running_var"},
        ["layer2.1.bn2.running_var"],
    ),
    "parameters alone": (dict(SMALL.named_parameters()), ["running statistics", "norm='group'"]),
    "without statistics": (
        {k: v for k, v in STATE.items() if "running" not in k},
        ["running statistics", "bn1.running_mean"],
    ),
    "group norms": (timm.create_model("resnet50_gn", num_classes=2).state_dict(), ["norm='group'"]),
    "pruned": ({**STATE, "layer1.0.conv1.weight_mask": torch.ones(1)}, ["prune.remove"]),
    "timm's other activation": (
        timm.create_model("resnet18", act_layer="silu", num_classes=2),
        ["SiLU", "ReLU"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(name: str, tmp_path: Path) -> None:
    content, words = REFUSED[name]
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(InputError) as caught:
        resnetkit.load(tmp_path / "net.pth")
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)
    assert "drop" not in str(caught.value)


def test_group_norms_are_read_where_they_are_told(tmp_path: Path) -> None:
    net = timm.create_model("resnet50_gn", num_classes=2).eval()
    torch.save(net.state_dict(), tmp_path / "net.pth")
    assert same(loaded(tmp_path / "net.pth", norm="group")[0], net)
    assert main(["convert", str(tmp_path / "net.pth"), str(tmp_path / "a.safetensors"),
                 "--norm", "group"]) == 0  # fmt: skip


def test_paddles_parameters_are_refused_by_name(tmp_path: Path) -> None:
    words = {"running_mean": "_mean", "running_var": "_variance"}
    state = {
        k: (v.numpy().T if k == "fc.weight" else v.numpy())
        for k, v in renamed(SMALL, **words).items()
        if "num_batches" not in k
    }
    (tmp_path / "net.pdparams").write_bytes(pickle.dumps(state, 4))
    with pytest.raises(InputError, match=r"a Paddle file.*paddle2onnx"):
        resnetkit.load(tmp_path / "net.pdparams")


def test_what_would_run_is_refused_and_does_not(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    for content in ({"state_dict": STATE, "note": Evil()}, Evil()):
        torch.save(content, tmp_path / "net.pth")
        with pytest.raises(InputError, match=r"net\.pth asks for '(posix|nt)\.system'"):
            resnetkit.load(tmp_path / "net.pth")
    assert not (tmp_path / "ran").exists()


# ---------------------------------------------------------- the authors' own modules beside ours


@pytest.mark.parametrize("name", ["deeplabv3_resnet50", "fcn_resnet50"])
def test_torchvisions_segmentation_is_dilated(name: str, tmp_path: Path) -> None:
    make = getattr(models.segmentation, name)
    net = trained(make(weights=None, weights_backbone=None, num_classes=3, aux_loss=True))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    bundle, _ = loaded(tmp_path / "net.pth")
    assert bundle.origin["dialect"] == "torchvision-segmentation"
    assert bundle.origin["assumed"]["output_stride"] == 8
    assert bundle.origin["assumed"]["dilation_entry"] == "previous"
    assert same(bundle, lambda x: net.backbone(x)["out"].mean((2, 3)))


@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        ("DeepLabV3Plus", "resnet50"),
        ("DeepLabV3Plus", "resnet18"),
        ("DeepLabV3", "resnet18"),
        ("PAN", "resnet18"),
        ("Unet", "resnet18"),
    ],
)
def test_smps_encoders_are_dilated_as_they_are(name: str, encoder: str, tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    net = trained(getattr(smp, name)(encoder, encoder_weights=None, classes=2))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    bundle, _ = loaded(tmp_path / "net.pth")
    assert bundle.network.name == encoder
    assert same(bundle, lambda x: net.encoder(x)[-1].mean((2, 3)))


def test_clips_resnet_is_refused_by_name(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    net = open_clip.create_model("RN50", pretrained=None)
    state = net.visual.state_dict()
    for prefix in ("visual.", ""):
        torch.save(under(prefix, state), tmp_path / "net.pth")
        with pytest.raises(InputError, match="this is CLIP's ResNet"):
            resnetkit.load(tmp_path / "net.pth")
        with pytest.raises(InputError, match="this is CLIP's ResNet"):
            resnetkit.load(tmp_path / "net.pth", drop=["attnpool"])


# ------------------------------------------------------------------------------ folders and shards


def test_a_folder_of_transformers(tmp_path: Path) -> None:
    config = transformers.ResNetConfig(
        layer_type="basic",
        depths=[2, 2, 2, 2],
        hidden_sizes=[64, 128, 256, 512],
        id2label={0: "ant", 1: "bee", 2: "wasp"},
        label2id={"ant": 0, "bee": 1, "wasp": 2},
    )
    net = trained(transformers.ResNetForImageClassification(config))
    net.save_pretrained(tmp_path)
    bundle, _ = loaded(tmp_path)
    assert bundle.classes == ("ant", "bee", "wasp")
    assert same(bundle, lambda x: net(x).logits)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_and_their_index(kind: str, tmp_path: Path) -> None:
    stem = "model" if kind == "safetensors" else "pytorch_model"
    names = list(STATE)
    parts = {
        f"{stem}-00001-of-00002.{kind}": names[:60],
        f"{stem}-00002-of-00002.{kind}": names[60:],
    }
    for file, listed in parts.items():
        state = {name: STATE[name].contiguous() for name in listed}
        save_file(state, tmp_path / file) if kind == "safetensors" else torch.save(
            state, tmp_path / file
        )
    index = tmp_path / f"{stem}.{kind}.index.json"
    places = {name: file for file, listed in parts.items() for name in listed}
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    for path in (tmp_path, index):
        assert same(loaded(path)[0], SMALL)
    with pytest.raises(InputError, match=r"one of several shards; give .*index\.json"):
        resnetkit.load(tmp_path / next(iter(parts)))
    for wrong, told in (
        ({"fc.bias": "../x.bin"}, "not a plain file name"),
        ({"fc.bias": "gone.bin"}, "not beside it"),
        ({"fc.bias": next(iter(parts))}, "but it is not"),
    ):
        index.write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(InputError, match=told):
            resnetkit.load(index)
    for text in ("", "[]", "{}", '{"weight_map": 3}', "[" * 100_000):
        index.write_text(text)
        with pytest.raises(InputError, match="index"):
            resnetkit.load(index)


def test_a_folder_that_training_saved(tmp_path: Path) -> None:
    """accelerate's and Lightning's: the weights among optimizers and random states."""
    for name in ("optimizer.bin", "random_states_0.pkl", "scheduler.bin"):
        torch.save({"x": torch.ones(2)}, tmp_path / name)
    with pytest.raises(InputError, match="without a weight file"):
        resnetkit.load(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": under("model.", STATE)}, tmp_path / "checkpoints" / "epoch=1.ckpt")
    assert same(loaded(tmp_path)[0], SMALL)
    save_file({k: v.contiguous() for k, v in STATE.items()}, tmp_path / "model.safetensors")
    assert identify(tmp_path).container.path.name == "model.safetensors"
    other = tmp_path / "other"
    other.mkdir()
    for name in ("a.pth", "b.pth"):
        torch.save(STATE, other / name)
    with pytest.raises(InputError, match=r"2 weight files: a\.pth, b\.pth; give one"):
        resnetkit.load(other)


#: The beginnings of files that are not read, and what is said of them.
OTHERS = {
    "net.tflite": (b"\x1c\0\0\0TFL3" + bytes(40), "TensorFlow Lite"),
    "net.params": (b"\x12\x01\0\0\0\0\0\0" + bytes(40), "MXNet"),
    "net.msgpack": (b"\x82\xa6params\x81\xa6kernel" + bytes(40), "Flax"),
    "net.caffemodel": (
        b"\x0a\x08ResNet50\xa2\x06\x40\x0a\x05conv1\x12\x0bConvolution" + bytes(40),
        "Caffe",
    ),
    "net.pb": (
        b"\x0a\x20\x0a\x05input\x12\x0bPlaceholder*\x0b\x0a\x05dtype" + bytes(40),
        "TensorFlow",
    ),
    "net.xml": (b'<?xml version="1.0"?>\n<net name="r" version="11">', "OpenVINO"),
    "net.npy": (b"\x93NUMPY\x01\0" + bytes(40), "single numpy array"),
    "net.gguf": (b"GGUF" + bytes(40), "GGUF"),
    "net.pdiparams": (bytes(64), "Paddle"),
    "net.engine": (b"\x01" * 64, "TensorRT"),
    "net.distcp": (b"\x01" * 64, "dcp_to_torch_save"),
    "net.pth.gz": (b"\x1f\x8b" + bytes(40), "gzip"),
    "net.zst": (b"\x28\xb5\x2f\xfd" + bytes(40), "compressed"),
    "lfs.pth": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "page.pth": (b"<!DOCTYPE html><html>", "web page"),
    "empty.pth": (b"", "is empty"),
    "random.pth": (b"\x17\x03" * 20, "not a known weight file"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_kinds_of_files_are_named(name: str, tmp_path: Path) -> None:
    content, word = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        identify(tmp_path / name)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_npz_and_an_older_export_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "net.npz", **{"conv1.weight": np.ones(3)})
    with pytest.raises(InputError, match=r"\.npz of numpy arrays"):
        identify(tmp_path / "net.npz")


@pytest.mark.parametrize(
    ("sign", "word"),
    [
        ("saved_model.pb", "SavedModel"),
        (".metadata", "dcp_to_torch_save"),
        ("zero_to_fp32.py", "DeepSpeed"),
        ("_CHECKPOINT_METADATA", "Orbax"),
        ("net.xml", "OpenVINO"),
    ],
)
def test_other_kinds_of_folders_are_named(sign: str, word: str, tmp_path: Path) -> None:
    (tmp_path / sign).write_bytes(b"x")
    with pytest.raises(InputError, match=word):
        identify(tmp_path)

"""Real torch files as people wrap them: what is peeled off, left out, or refused."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

import resnetkit
from resnetkit.checkpoints.identification import identify
from resnetkit.cli.main import main
from resnetkit.errors import InputError

torch.manual_seed(0)
MODULE = resnetkit.build(
    "resnet50", depths=(1, 1), widths=(8, 16), stem_widths=(8,), num_classes=5
).eval()
STATE = MODULE.state_dict()
BODY = {name: value for name, value in STATE.items() if not name.startswith("fc.")}
AVERAGE = {name: value + 1 for name, value in STATE.items()}
OPTIMIZER = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}


def under(prefix: str, state: dict[str, Any] = STATE) -> dict[str, Any]:
    return {prefix + name: value for name, value in state.items()}


def moco(head: dict[str, Any]) -> dict[str, Any]:
    """MoCo's two encoders and its queue, as its main_moco.py saves them."""
    both = {
        f"module.encoder_{which}.{name}": value
        for which in "qk"
        for name, value in {**BODY, **head}.items()
    }
    queue = {"module.queue": torch.zeros(5, 8), "module.queue_ptr": torch.zeros(1).long()}
    return {"epoch": 200, "state_dict": {**both, **queue}, "optimizer": OPTIMIZER}


LIGHTNING = {
    "epoch": 3,
    "global_step": 10,
    "pytorch-lightning_version": "2.4.0",
    "state_dict": under("model."),
    "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best_model_score": torch.tensor(0.4)}},
    "optimizer_states": [{"state": {0: {"step": torch.tensor(10.0)}}, "param_groups": []}],
    "lr_schedulers": [],
    "hyper_parameters": {"lr": 0.1},
}
TIMM = {
    "epoch": 3,
    "arch": "resnet50",
    "state_dict": STATE,
    "optimizer": OPTIMIZER,
    "version": 2,
    "args": argparse.Namespace(model="resnet50", lr=0.1),
    "metric": 77.0,
}
#: What is saved, the wrappers that are reported, and the tensors that are set aside.
WRAPPED: dict[str, tuple[dict[str, Any], list[str], set[str]]] = {
    "state_dict": ({"state_dict": STATE, "epoch": 1}, ["state_dict"], set()),
    "model": (
        {"model": STATE, "optimizer": OPTIMIZER, "best_acc1": torch.tensor(77.0)},
        ["model"],
        {"optimizer/state/0/momentum_buffer", "best_acc1"},
    ),
    "module.": (under("module."), ["module"], set()),
    "model.": (under("model."), ["model"], set()),
    "encoder.": (under("encoder.", BODY), ["encoder"], set()),
    "net.module.": (under("net.module."), ["net", "module"], set()),
    "_orig_mod.": (under("_orig_mod."), ["_orig_mod"], set()),
    "module._orig_mod.": (under("module._orig_mod."), ["module", "_orig_mod"], set()),
    "lightning": (
        LIGHTNING,
        ["state_dict", "model"],
        {
            "callbacks/ModelCheckpoint{'monitor': 'loss'}/best_model_score",
            "optimizer_states/0/state/0/step",
        },
    ),
    "timm": (TIMM, ["state_dict"], {"optimizer/state/0/momentum_buffer"}),
    "averaged by torch": (
        {"model_ema": {"n_averaged": torch.tensor(3), **under("module.")}, "epoch": 3},
        ["model_ema", "module"],
        {"model_ema/n_averaged"},
    ),
}


def saved(content: Any, folder: Path) -> Path:
    torch.save(content, folder / "net.pth")
    return folder / "net.pth"


def same_features(bundle: resnetkit.Bundle) -> bool:
    pixels, module = torch.randn(1, 3, 32, 32), bundle.module()
    with torch.inference_mode():
        maps, wanted = module.stages(pixels), MODULE.stages(pixels)
        assert list(maps) == ["stage0", "stage1", "stage2"]
        return all(torch.equal(maps[name], wanted[name]) for name in maps) and torch.equal(
            module.forward_features(pixels), wanted["stage2"]
        )


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_are_peeled_and_reported(name: str, tmp_path: Path) -> None:
    content, wrappers, ignored = WRAPPED[name]
    path = saved(content, tmp_path)
    found = identify(path).to_dict()
    assert [wrapper["name"] for wrapper in found["wrapper"]] == wrappers
    assert all(wrapper["meaning"] != "not known" for wrapper in found["wrapper"])
    assert set(found["ignored"]) == ignored
    assert found["leftover"] == found["missing"] == []
    assert same_features(resnetkit.load(path))


def test_a_backbone_may_be_of_two_frameworks(tmp_path: Path) -> None:
    """Theirs of OpenMMLab has the same names; which it is decides how images are prepared."""
    found = identify(saved(under("backbone.", BODY), tmp_path))
    assert {found.reading.dialect.name, *found.reading.also} >= {"mmpretrain", "timm"}
    (open_,) = [fact for fact in found.reading.ambiguous if fact.fact == "preprocess"]
    assert {"imagenet_bs32", "resnet50.a1_in1k"} <= set(open_.candidates)
    bundle = resnetkit.load(found.container.path, preprocess="resnet50.a1_in1k")
    assert bundle.preprocess.interpolation == "bicubic"
    assert same_features(bundle)


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "ema"])
def test_weights_and_their_average_are_a_choice(key: str, tmp_path: Path) -> None:
    path = saved({**TIMM, key: AVERAGE}, tmp_path)
    with pytest.raises(InputError, match="choose with ema=True or ema=False"):
        resnetkit.load(path)
    assert same_features(resnetkit.load(path, ema=False))
    averaged = resnetkit.load(path, ema=True)
    assert torch.equal(averaged.arrays["fc.bias"], AVERAGE["fc.bias"])
    torch.save({"optimizer": OPTIMIZER, key: AVERAGE}, path)
    alone = resnetkit.load(path)
    assert torch.equal(alone.arrays["fc.bias"], AVERAGE["fc.bias"]), "there is nothing to choose"


@pytest.mark.parametrize("layers", [1, 2])
def test_of_moco_the_query_encoder_is_taken(layers: int, tmp_path: Path) -> None:
    """v1 projects with one layer, which looks like a classifier, v2 with two."""
    mlp = {"fc.0.weight": torch.zeros(64, 64), "fc.2.weight": torch.zeros(8, 64)}
    single = {"fc.weight": torch.zeros(8, 64), "fc.bias": torch.zeros(8)}
    path = saved(moco(mlp if layers == 2 else single), tmp_path)
    found = identify(path)
    assert found.reading.wrappers == ("state_dict", "module", "encoder_q")
    assert found.reading.head == "other"
    reasons = set(found.reading.ignored.values())
    assert {"MoCo's queue of keys", "training state, beside the weights"} < reasons
    bundle = resnetkit.load(path)
    assert same_features(bundle)
    if layers == 1:
        assert "the fully connected layer is a projection" in bundle.origin["warnings"][0]
    else:
        start = "state_dict/module.encoder_q.fc."
        assert bundle.origin["left_out"] == [start + "0.weight", start + "2.weight"]


OTHERS = {
    "an embedding": {**BODY, "embed.weight": torch.zeros(9, 64), "embed.bias": torch.zeros(9)},
    "two layers": {**BODY, "fc.0.weight": torch.zeros(9, 64), "fc.3.weight": torch.zeros(2, 9)},
    "a decoder": {
        "state_dict": {
            **under("backbone.", BODY),
            "decoder.blocks.0.conv1.0.weight": torch.zeros(2, 3, 1, 1),
            "segmentation_head.0.weight": torch.zeros(2, 3, 1, 1),
        }
    },
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_head_is_left_out_and_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(OTHERS[name], tmp_path)
    found = identify(path).to_dict()
    assert found["head"] == "other"
    assert found["leftover"]
    bundle = resnetkit.load(path)
    assert bundle.origin["left_out"] == found["leftover"]
    assert "outside the network are skipped" in bundle.origin["warnings"][-1]
    assert "no classifier was found" in bundle.origin["warnings"][-1]
    assert bundle.classes == ()
    assert same_features(bundle)
    words = ["convert", str(path), str(tmp_path / "out.safetensors")]
    assert main([*words, "--strict", *STRICT]) == 2, "a command that is to be total"
    told = capsys.readouterr().err
    assert "leave --strict out, or name them, e.g. --drop " in told
    flags = told.partition("or name them, e.g. ")[2].split()
    assert main([*words, "--strict", *STRICT, *flags]) == 0
    assert same_features(resnetkit.load(tmp_path / "out.safetensors"))
    assert main(words) == 0
    assert "outside the network are skipped" in capsys.readouterr().out


#: All that no tensor shows of the network of these tests.
STRICT = (
    "--stride-on 3x3 --norm-epsilon 1e-5 --stem-pool padded --anti-alias none --head-pool global "
    "--output-stride 8 --preprocess resnet50.a1_in1k"
).split()


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ("layer1.0.conv9.weight", "layer1.0.conv9.weight is inside the network"),
        ("layer1.0.gate.weight", "layer1.0.gate.weight is inside the network"),
        ("layer3.1.weight", "layer3.1.weight is inside the network"),
        ("conv2.weight", "conv2.weight is inside the network"),
        ("layer1.0.ca.fc1.weight", "this is a ResNet with CBAM's attention"),
        ("ca.fc1.weight", "this is a ResNet with attention between its stages"),
        ("attnpool.positional_embedding", "this is CLIP's ResNet"),
        ("layer1.0.conv1.weight_mask", "this is a network pruned by torch"),
        ("bn1._mean", "this is a Paddle file"),
    ],
)
def test_what_may_be_part_of_the_body_is_never_left_out(
    extra: str, what: str, tmp_path: Path
) -> None:
    path = saved({**BODY, extra: torch.zeros(2, 2, 1, 1)}, tmp_path)
    with pytest.raises(InputError, match=what) as caught:
        resnetkit.load(path)
    assert "drop" not in str(caught.value), "a tensor of the body is never offered for dropping"


def test_leftovers_are_dropped_by_patterns(tmp_path: Path) -> None:
    extra = {f"layer1.0.{n}.running": torch.zeros(2) for n in ("one", "two")}
    path = saved({**STATE, **extra}, tmp_path)
    with pytest.raises(InputError, match="is inside the network"):
        resnetkit.load(path)
    dropped = resnetkit.load(path, drop=["layer1.*.running"])
    assert dropped.origin["left_out"] == []
    assert "2 tensors inside the network were dropped on request" in dropped.origin["warnings"][-1]
    with pytest.raises(InputError, match=r"no leftover tensor begins with 'layer2\.\*'"):
        resnetkit.load(path, drop=["layer2.*"])

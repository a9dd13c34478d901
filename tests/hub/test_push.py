"""Bundles pushed to a stand-in of the Hub by the real huggingface_hub, and loaded from it."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import constants
from PIL import Image

import resnetkit
from hub_server import Hub, hub_serving, into
from resnetkit.cli.main import main
from resnetkit.errors import InputError
from resnetkit.hub.model_card import MARK, model_card
from running_statistics import draw_statistics

#: huggingface_hub's own way to upload, with an HTTP library that has a newer one.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
CLASSES = ("brick", "cat", "coffee|cup", "<b>rocket</b>", "tree")


def bundle_of(
    name: str = "resnet18",
    *,
    size: int = 64,
    measured: Any = None,
    origin: Any = None,
    **options: Any,
) -> resnetkit.Bundle:
    torch.manual_seed(0)
    module = resnetkit.build(name, **{"num_classes": len(CLASSES), **options})
    draw_statistics(module)
    grey = {"channels": "L", "mean": (0.5,), "std": (0.25,)} if options.get("in_chans") == 1 else {}
    preprocess = resnetkit.Preprocess(size=size, resize_to=size + 9, **grey)
    return resnetkit.Bundle.from_module(
        module,
        preprocess=preprocess,
        classes=CLASSES if module.num_classes else (),
        measured=measured,
        origin=origin,
    )


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_serving() as found:
        into(found, tmp_path, monkeypatch)
        yield found


@torch.inference_mode()
def logits(bundle: resnetkit.Bundle) -> torch.Tensor:
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    return bundle.module()(pixels)


@pytest.mark.parametrize(
    ("name", "options", "framework", "files"),
    [
        ("resnet18", {}, "timm", ["config.json", "model.safetensors"]),
        ("resnet26d", {}, "timm", ["bundle.safetensors", "config.json", "model.safetensors"]),
        (
            "resnet18",
            {"depths": (1, 1, 1, 1)},
            "transformers",
            [
                *("bundle.safetensors", "config.json", "model.safetensors"),
                "preprocessor_config.json",
            ],
        ),
        ("resnet20", {"in_chans": 3}, "none", ["model.safetensors"]),
    ],
)
def test_what_was_pushed_is_loaded_bit_for_bit(
    hub: Hub, name: str, options: dict[str, Any], framework: str, files: list[str]
) -> None:
    bundle = bundle_of(name, origin={"made_by": "a test"}, **options)
    done = bundle.push_to_hub("me/net")
    assert (done.repo_id, done.framework) == ("me/net", framework)
    assert list(done.files) == ["README.md", *files]
    assert {*hub.files("me/net")} == {".gitattributes", "README.md", *files}
    assert done.commit in done.url
    again = resnetkit.load("hf:me/net")
    assert torch.equal(logits(again), logits(bundle))
    assert (again.classes, again.preprocess) == (bundle.classes, bundle.preprocess)
    assert again.origin["fetched"]["revision"] == done.commit
    assert again.origin["made_by"] == "a test"
    assert (again.network, again.measured) == (bundle.network, bundle.measured)


def test_every_function_takes_it(hub: Hub, tmp_path: Path) -> None:
    bundle_of().push_to_hub("me/net", private=True, revision="v2", commit_message="The second")
    repository = hub.repositories["me/net"]
    assert repository.private
    assert repository.messages[-1] == "The second"
    assert [*hub.files("me/net")] == [".gitattributes"]
    pixels = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
    source = "hf:me/net@v2"
    assert isinstance(resnetkit.open_model(source), resnetkit.Bundle)
    (found,) = resnetkit.predict(source, pixels, engine="torch")
    assert found.label in CLASSES
    assert resnetkit.embed(source, pixels, engine="torch").shape == (1, 512)
    Image.fromarray(pixels).save("picture.png")
    assert main(["predict", source, "picture.png", "--engine", "torch"]) == 0
    assert main(["fetch", source, "--out", "net.safetensors"]) == 0
    assert torch.equal(logits(resnetkit.load("net.safetensors")), logits(bundle_of()))
    with pytest.raises(InputError, match="has no revision 'v3'"):
        resnetkit.open_model("hf:me/net@v3")


def test_the_server_names_a_source_as_it_is(hub: Hub) -> None:
    """A dot in it begins no suffix."""
    bundle = bundle_of("resnet20", size=32, in_chans=3, num_classes=None)
    bundle.push_to_hub("me/net.a1_in1k")
    with pytest.raises(InputError, match=r"^net\.a1_in1k has no classifier"):
        resnetkit.serve("hf:me/net.a1_in1k")


def test_the_backbone_of_transformers(hub: Hub, tmp_path: Path) -> None:
    """AutoBackbone takes a name of the Hub, and no folder."""
    bundle = bundle_of()
    bundle.push_to_hub("me/net", framework="transformers")
    program = """
import sys, torch
from transformers import AutoBackbone
backbone = AutoBackbone.from_pretrained("me/net", out_features=["stage2", "stage4"]).eval()
with torch.inference_mode():
    maps = backbone(torch.load("pixels.pt")).feature_maps
torch.save({"maps": maps, "channels": backbone.channels}, "maps.pt")
"""
    pixels = torch.randn(2, 3, 64, 64)
    torch.save(pixels, "pixels.pt")
    in_a_process(program, tmp_path)
    theirs = torch.load("maps.pt")
    ours = resnetkit.build(
        "resnet18", num_classes=5, pretrained="hf:me/net", features_only=True, out_indices=(2, 4)
    ).eval()
    assert ours.channels == theirs["channels"] == [128, 512]
    with torch.inference_mode():
        for one, other in zip(ours(pixels), theirs["maps"], strict=True):
            assert torch.allclose(one, other, atol=1e-5)


def in_a_process(program: str, folder: Path) -> str:
    """What a fresh process prints, whose libraries take the stand-in for the Hub."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=folder,
        env={**os.environ, "HF_HOME": str(folder / "fresh"), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "framework", "libraries"),
    [
        ({}, None, ["resnetkit", "transformers", "timm", "torchvision", "ONNX Runtime"]),
        ({}, "transformers", ["resnetkit", "transformers", "torchvision", "ONNX Runtime"]),
        ({"num_classes": None}, None, ["resnetkit", "transformers", "timm"]),
        ({"in_chans": 1}, None, ["resnetkit", "timm", "ONNX Runtime"]),
    ],
)
def test_the_card_shows_how_to_use_it(
    hub: Hub, tmp_path: Path, options: dict[str, Any], framework: Any, libraries: list[str]
) -> None:
    bundle = bundle_of(**options)
    bundle.push_to_hub("me/net", framework=framework, revision="v2")
    card = hub.files("me/net", "v2")["README.md"].decode()
    assert re.findall(r"^With (\w+(?: Runtime)?)", card, re.MULTILINE) == libraries
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).resize((80, 90)).save("picture.jpg", quality=95)
    snippets = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(snippets) == len(libraries)
    separated = '\nprint("----")\n'.join(snippets)
    answers = in_a_process(separated, tmp_path).split("----")
    if not bundle.classes:
        assert [re.findall(r"512", answer) for answer in answers] == [["512"]] * 3
        return
    (prediction,) = bundle.predict("picture.jpg", engine="torch")
    best = prediction.label
    for library, answer in zip(libraries, answers, strict=True):
        if library in ("torchvision", "ONNX Runtime"):
            assert int(answer) == CLASSES.index(best), library
        elif library == "timm":
            assert answer.strip() == best
        elif library == "transformers":
            assert re.findall(r"'label': '(.*?)'", answer)[0] == best
        else:
            assert answer.split()[0] == best


def test_the_card_of_a_grey_network() -> None:
    """transformers' pipeline takes colours."""
    card = model_card(
        bundle_of(in_chans=1), "me/net", framework="timm", weights="model.safetensors"
    )
    assert re.findall(r"^With (\w+(?: Runtime)?)", card, re.MULTILINE) == [
        *("resnetkit", "timm", "ONNX Runtime")
    ]
    assert {*re.findall(r"convert\(.*?\)", card)} == {'convert("L")'}


def test_the_card_says_what_the_bundle_knows(hub: Hub, tmp_path: Path) -> None:
    resnetkit.train("digits", out=tmp_path / "run", epochs=2, threads=1, size=16)
    best = resnetkit.load(tmp_path / "run" / "best.safetensors")
    words = ["push", str(tmp_path / "run" / "best.safetensors"), "me/digits", "--license", "mit"]
    assert main(words) == 0
    text = hub.files("me/digits")["README.md"].decode()
    card = huggingface_hub.ModelCard(text)
    assert card.data.license == "mit"
    assert card.data.library_name == "resnetkit"
    assert card.data.pipeline_tag == "image-classification"
    result = card.data.eval_results[0]
    assert result.dataset_name == "digits"
    assert result.metric_value == best.measured["test"]["accuracy"]
    low, high = best.measured["test"]["intervals"]["accuracy"]
    assert f"| {100 * low:.2f} % to {100 * high:.2f} % |" in text
    assert f"{best.origin['images']['train']:,} images for train" in text
    assert f"{best.network.parameters:,}" in text
    macs = resnetkit.explain(best.network, input=(1, 16, 16)).totals.macs
    assert f"{macs:,} at 1x16x16" in text
    assert best.preprocess.text in text
    again = resnetkit.evaluate("hf:me/digits", "digits", split="test", engine="torch")
    assert again.evaluation.accuracy == best.measured["test"]["accuracy"]
    unknown = model_card(best, "me/net", framework="none", weights="model.safetensors")
    assert huggingface_hub.ModelCard(unknown).data.license == "unknown"
    assert "has not stated one" in unknown


def test_names_in_a_card_are_text() -> None:
    """Rendered as CommonMark, nothing of a name is markup, a link or a line of its own."""
    names = ("<script>x</script>", "[x](http://www.evil.com)", "a|b", "**b**\n# c", "`d`", "é 中")
    module = resnetkit.build("resnet18", num_classes=len(names))
    bundle = resnetkit.Bundle.from_module(
        module,
        classes=names,
        origin={"recipe": {"data": "--- # <i>"}},
        measured={"test": {"accuracy": 0.5}, "<u>": {"accuracy": 1}},
    )
    card = model_card(bundle, "me/net", framework="timm", weights="model.safetensors")
    metadata, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL).groups()
    data = yaml.safe_load(metadata)["model-index"][0]["results"][0]["dataset"]
    assert data["name"] == "--- # <i>"
    assert "é 中" in body
    text = re.sub(r"```python.*?```", "", body.replace(MARK, ""), flags=re.DOTALL)
    for word in ("<", "](", "www.", "**", "# c", "`d`", "a|b"):
        assert word not in text, word


@pytest.mark.parametrize(
    ("source", "base", "shown"),
    [
        ("hf:timm/net/sub/x.safetensors@v1", "timm/net", "hf:timm/net/sub/x.safetensors@v1"),
        ("hf:me/net@v1", None, "hf:me/net@v1"),
        ("https://me:hunter2@host/net.pth?key=hunter2", None, "https://host/net.pth"),
        ("http://127.0.0.1/net.pth", None, None),
        ("hf:net", None, None),
        (1, None, None),
    ],
)
def test_the_card_names_the_source(source: Any, base: str | None, shown: str | None) -> None:
    bundle = bundle_of("resnet20", in_chans=3, origin={"fetched": {"source": source}})
    text = model_card(bundle, "me/net", framework="none", weights="model.safetensors")
    assert huggingface_hub.ModelCard(text).data.base_model == base
    assert "hunter2" not in text
    told = re.findall(r"^The weights are from (.*)\.$", text, re.MULTILINE)
    assert [html.unescape(one) for one in told] == ([] if shown is None else [shown])


def test_a_base_model_is_not_itself(hub: Hub) -> None:
    """What was pushed, loaded and is pushed again."""
    bundle = bundle_of("resnet20", size=32, in_chans=3)
    bundle.push_to_hub("me/net")
    again = resnetkit.load("hf:me/net")
    again.push_to_hub("me/net")
    again.push_to_hub("me/other")
    bases = [
        huggingface_hub.ModelCard(hub.files(name)["README.md"].decode()).data.base_model
        for name in ("me/net", "me/other")
    ]
    assert bases == [None, "me/net"]


def test_a_model_that_is_there(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = {"config.json": b"{}", "pytorch_model.bin": b"x", "notes.txt": b"y"}
    hub.add("me/net", theirs)
    bundle = bundle_of()
    with pytest.raises(InputError, match=r"me/net has another model \(config.json, pytorch"):
        bundle.push_to_hub("me/net")
    bundle.save("net.safetensors")
    assert main(["push", "net.safetensors", "me/net"]) == 2
    assert "give another OWNER/NAME, or --overwrite" in capsys.readouterr().err
    assert hub.files("me/net") == theirs
    bundle.push_to_hub("me/net", overwrite=True)
    assert {*hub.files("me/net")} == {
        *("README.md", "config.json", "model.safetensors", "notes.txt")
    }


@pytest.mark.parametrize(
    "name", ["weights.pt", "onnx/model.onnx", "model-00001-of-00002.safetensors"]
)
def test_any_file_of_a_model_is_another_model(hub: Hub, name: str) -> None:
    theirs = {"README.md": b"# My own card", name: b"x"}
    hub.add("me/net", theirs)
    with pytest.raises(InputError, match=f"me/net has another model .{name}"):
        bundle_of(size=32).push_to_hub("me/net")
    assert hub.files("me/net") == theirs


def test_a_card_written_by_hand_is_only_replaced_with_overwrite(hub: Hub) -> None:
    hub.add("me/net", {"README.md": b"# My own card"})
    bundle = bundle_of("resnet20", size=32, in_chans=3)
    for _ in range(2):  # the second time, beside our own model
        done = bundle.push_to_hub("me/net")
        assert done.card_kept
        assert "README.md" not in done.files
        assert hub.files("me/net")["README.md"] == b"# My own card"
    assert not bundle.push_to_hub("me/net", overwrite=True).card_kept
    assert MARK.encode() in hub.files("me/net")["README.md"]


def test_overwriting_removes_the_parts_of_the_other_model(hub: Hub) -> None:
    """What a library would load instead of what is pushed, or together with it."""
    parts = (
        *("model.safetensors.index.json", "model-00001-of-00002.safetensors"),
        *("pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"),
        *("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "preprocessor_config.json"),
    )
    others = {"vocabulary.txt": b"y", "onnx/model.onnx": b"z", "model.safetensors": b"x"}
    hub.add("me/net", {**dict.fromkeys(parts, b"x"), **others})
    bundle = bundle_of("resnet20", size=32, in_chans=3)
    with pytest.raises(InputError, match="me/net has another model"):
        bundle.push_to_hub("me/net")
    bundle.push_to_hub("me/net", overwrite=True)
    assert {*hub.files("me/net")} == {"README.md", *others}
    assert resnetkit.load("hf:me/net").network == bundle.network


def test_a_push_replaces_the_one_before(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    deep = bundle_of("resnet26d")
    deep.push_to_hub("me/net")
    assert "bundle.safetensors" in hub.files("me/net")
    plain = bundle_of()
    plain.push_to_hub("me/net")
    assert "bundle.safetensors" not in hub.files("me/net")
    assert torch.equal(logits(resnetkit.load("hf:me/net")), logits(plain))
    files = dict(hub.files("me/net"))
    files["README.md"] = files["README.md"].replace(MARK.encode(), b"My own words.")
    hub.repositories["me/net"].commit("main", files)
    deep.save("deep.safetensors")
    assert main(["push", "deep.safetensors", "me/net"]) == 0
    assert "README.md was written by hand, and is kept" in capsys.readouterr().out
    assert b"My own words." in hub.files("me/net")["README.md"]
    assert torch.equal(logits(resnetkit.load("hf:me/net")), logits(deep))


def test_a_pull_request(hub: Hub) -> None:
    hub.add("other/net", {".gitattributes": b""})
    hub.repositories["me/net"] = hub.repositories.pop("other/net")
    done = bundle_of().push_to_hub("me/net", create_pr=True)
    assert done.url.endswith("/discussions/1")
    assert [*hub.files("me/net")] == [".gitattributes"]
    assert torch.equal(logits(resnetkit.load("hf:me/net@refs/pr/1")), logits(bundle_of()))


def test_a_pull_request_makes_no_branch(hub: Hub) -> None:
    """Which needs the right to write."""
    hub.add("me/net", {".gitattributes": b""})
    with pytest.raises(InputError, match=r"me/net has no branch 'v2' for a pull request"):
        bundle_of("resnet20", size=32, in_chans=3).push_to_hub(
            "me/net", revision="v2", create_pr=True
        )
    assert [*hub.repositories["me/net"].branches] == ["main"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("net", {}, "repo_id is 'net'; give OWNER/NAME"),
        ("me/a--b", {}, "give OWNER/NAME"),
        ("../me", {}, "give OWNER/NAME"),
        ("me/net", {"revision": "v 2"}, "revision is 'v 2'"),
        ("me/net", {"framework": "keras"}, "it must be one of timm, transformers, none"),
        ("me/net", {"license": "nothing"}, '"license" must be one of'),
        ("me/net", {"token": "hf_wrong"}, "requires a login; run `hf auth login`"),
        ("me/net", {"token": False}, "requires a login"),
        ("other/net", {}, r"may not write there \(You don't have the rights under other\)"),
        ("me/there", {"private": True}, "its visibility is 'public'; .* leave private=True out"),
    ],
)
def test_what_is_refused(hub: Hub, name: str, options: dict[str, Any], message: str) -> None:
    there = hub.add("me/there", {})
    with pytest.raises(InputError, match=message) as caught:
        bundle_of(size=32).push_to_hub(name, **options)
    assert "\n" not in str(caught.value)
    assert [*hub.repositories] == ["me/there"]
    assert len(there.commits) == 1


@pytest.mark.parametrize(("flag", "there"), [("--private", "public"), ("--no-private", "private")])
def test_the_other_visibility_on_the_command_line(
    hub: Hub, capsys: pytest.CaptureFixture[str], flag: str, there: str
) -> None:
    hub.add("me/there", {}, private=there == "private")
    bundle_of("resnet20", size=32, in_chans=3).save("net.safetensors")
    assert main(["push", "net.safetensors", "me/there", flag]) == 2
    told = capsys.readouterr().err
    assert f"its visibility is '{there}'; change that in its settings, or leave {flag} out" in told


def test_a_network_that_the_framework_lacks(hub: Hub) -> None:
    with pytest.raises(InputError, match="timm"):
        bundle_of("resnet20", in_chans=3).push_to_hub("me/net", framework="timm")
    assert not hub.requests


@pytest.mark.parametrize(
    ("ending", "status", "message"),
    [
        ("commit/main", 403, "may not write there"),
        ("commit/main", 500, "refused by the test|500"),
        ("commit/main", 412, "has changed meanwhile"),
        ("objects/batch", 403, "may not write there"),
        ("preupload/main", 403, "may not write there"),
    ],
)
def test_a_push_is_whole_or_not_there(hub: Hub, ending: str, status: int, message: str) -> None:
    bundle_of().push_to_hub("me/net")
    before = dict(hub.files("me/net"))
    hub.refuse(ending, status)
    changed = bundle_of("resnet34")
    with pytest.raises(InputError, match=message):
        changed.push_to_hub("me/net")
    assert hub.files("me/net") == before


def test_a_server_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"me/net was not pushed: the server cannot be reached"):
        bundle_of(size=32).push_to_hub("me/net")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="HF_HUB_OFFLINE forbids the network"):
        bundle_of(size=32).push_to_hub("me/net")


def test_a_modified_bundle_is_refused(hub: Hub) -> None:
    """The Hub's digest is that of the modified file; the bundle's own is not."""
    bundle_of().push_to_hub("me/net")
    files = dict(hub.files("me/net"))
    weights = files["model.safetensors"]
    files["model.safetensors"] = weights[:-1] + bytes([weights[-1] ^ 1])
    hub.repositories["me/net"].commit("main", files)
    with pytest.raises(InputError, match="was modified after it was written"):
        resnetkit.load("hf:me/net")


def test_the_result_as_json(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    bundle_of("resnet20", in_chans=3).save("net.safetensors")
    assert main(["push", "net.safetensors", "me/net", "--format", "json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["framework"] == "none"
    assert done["files"] == ["README.md", "model.safetensors"]

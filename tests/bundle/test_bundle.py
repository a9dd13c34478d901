"""Bundles: there and back, and every way in which a file can be wrong."""

from __future__ import annotations

import json
import os
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import resnetkit
from resnetkit.bundle.bundle import load as load_bundle
from resnetkit.errors import InputError

CLASSES = ("bark", "sand", "water")
PREPROCESS = resnetkit.Preprocess(size=32, resize_to=36, mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.fixture
def bundle() -> resnetkit.Bundle:
    torch.manual_seed(0)
    module = resnetkit.build("resnet20", num_classes=3, squeeze_excitation=4)
    return resnetkit.Bundle.from_module(
        module,
        preprocess=PREPROCESS,
        classes=CLASSES,
        origin={"from": "a test"},
        measured={"test": {"accuracy": 0.5, "images": 8}},
    )


def header(path: Path) -> tuple[dict, bytes]:
    """A safetensors file as its header and its data, by the format's own definition."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def rewrite(path: Path, change: Callable[[dict], None]) -> None:
    """Change the bundle's document in the header and leave everything else as it is."""
    head, data = header(path)
    document = json.loads(head["__metadata__"]["resnetkit"])
    change(document)
    head["__metadata__"]["resnetkit"] = json.dumps(document)
    encoded = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)


def test_there_and_back(bundle: resnetkit.Bundle, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    bundle.save(path)
    assert list(tmp_path.iterdir()) == [path]
    again = resnetkit.load(path)
    assert again.network == bundle.network
    assert again.network.about == bundle.network.about
    assert again.preprocess == PREPROCESS
    assert again.classes == CLASSES
    assert (again.origin, again.measured) == (bundle.origin, bundle.measured)
    assert set(again.arrays) == set(bundle.arrays)
    assert all(torch.equal(again.arrays[name], bundle.arrays[name]) for name in bundle.arrays)
    image = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(again.module()(image), bundle.module()(image))


def test_any_reader_of_safetensors_can_read_it(bundle: resnetkit.Bundle, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    bundle.save(path)
    assert set(safetensors.torch.load_file(path)) == set(bundle.arrays)
    document = json.loads(header(path)[0]["__metadata__"]["resnetkit"])
    assert document["version"] == 1
    assert document["classes"] == list(CLASSES)


def test_weights_are_copies(bundle: resnetkit.Bundle) -> None:
    module = bundle.module()
    assert not module.training
    with torch.no_grad():
        module.fc.weight.add_(1)
    assert not torch.equal(module.fc.weight, bundle.arrays["fc.weight"])
    assert torch.equal(bundle.module().fc.weight, bundle.arrays["fc.weight"])
    assert all(p.requires_grad for p in module.parameters())


def test_predict_ranks_classes(bundle: resnetkit.Bundle) -> None:
    images = [np.zeros((40, 60, 3), np.uint8), np.full((30, 30, 3), 255, np.uint8)]
    for prediction in bundle.predict(images, topk=2):
        first, second = prediction.scores
        assert {first.label, second.label} < set(CLASSES)
        assert 1 >= first.probability >= second.probability >= 0


def test_a_network_without_classes_makes_maps_and_no_guesses(tmp_path: Path) -> None:
    bundle = resnetkit.Bundle.from_module(
        resnetkit.build("resnet50_notes", depths=(1, 1, 1, 1), widths=(8, 8, 8, 8))
    )
    bundle.save(tmp_path / "maps.safetensors")
    again = resnetkit.load(tmp_path / "maps.safetensors")
    assert again.classes == ()
    with torch.inference_mode():
        assert again.module()(torch.rand(1, 3, 473, 473)).shape == (1, 32, 10, 10)
    with pytest.raises(InputError, match="no classes to rank"):
        again.predict([np.zeros((40, 60, 3), np.uint8)])


def test_defaults_of_from_module() -> None:
    bundle = resnetkit.Bundle.from_module(resnetkit.build("resnet20"))
    assert bundle.classes == tuple("0123456789")
    assert bundle.preprocess.size == 32


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"classes": ("a", "b")}, "2 class names for a network with 3 classes"),
        ({"classes": ("a", "b", "a")}, "'a' occurs twice"),
        (
            {"preprocess": resnetkit.Preprocess(size=8, channels="L", mean=(0,), std=(1,))},
            "makes 1 channels",
        ),
        ({"preprocess": resnetkit.Preprocess(size=64)}, "makes 64x64 pixels, and the head cannot"),
    ],
)
def test_parts_have_to_fit(change: dict, reason: str) -> None:
    module = resnetkit.build("resnet18", num_classes=3, widths=(8, 8, 8, 8), head_pool="7x7")
    usable = resnetkit.Preprocess(size=224)
    with pytest.raises(InputError, match=reason):
        resnetkit.Bundle.from_module(module, **{"preprocess": usable, **change})


def test_only_modules_of_ours() -> None:
    with pytest.raises(InputError, match=r"resnetkit\.build, and this is a Linear"):
        resnetkit.Bundle.from_module(torch.nn.Linear(2, 2))


def saved(bundle: resnetkit.Bundle, tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    bundle.save(path)
    return path


def refused(path: Path, reason: str) -> None:
    """As a bundle for the given reason, and as any checkpoint as well."""
    for load, why in ((load_bundle, reason), (resnetkit.load, None)):
        with pytest.raises(InputError, match=why) as caught:
            load(path)
        assert "\n" not in str(caught.value)
        assert path.name in str(caught.value)


@pytest.mark.parametrize("kept", [0, 4, 100, 0.3, 0.999])
def test_truncated(bundle: resnetkit.Bundle, tmp_path: Path, kept: float) -> None:
    path = saved(bundle, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    refused(path, "truncated or not a safetensors file")


def test_one_flipped_bit_of_a_weight(bundle: resnetkit.Bundle, tmp_path: Path) -> None:
    path = saved(bundle, tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    refused(path, "was modified")


def test_one_changed_word_of_the_header(bundle: resnetkit.Bundle, tmp_path: Path) -> None:
    path = saved(bundle, tmp_path)
    rewrite(path, lambda document: document["classes"].__setitem__(0, "bank"))
    refused(path, "was modified")


def test_newer_format(bundle: resnetkit.Bundle, tmp_path: Path) -> None:
    path = saved(bundle, tmp_path)
    rewrite(path, lambda document: document.update(version=2))
    refused(path, "version 2 of the bundle format and this resnetkit reads 1; update resnetkit")


def test_other_files(tmp_path: Path) -> None:
    plain = tmp_path / "plain.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(1)}, plain)
    refused(plain, "is a safetensors file, but not a bundle")
    refused(tmp_path / "missing.safetensors", "does not exist")
    refused(tmp_path, "is a folder")
    text = tmp_path / "text.safetensors"
    text.write_text("hello " * 99)
    refused(text, "truncated or not a safetensors file")


def test_weights_of_another_network(bundle: resnetkit.Bundle, tmp_path: Path) -> None:
    arrays = dict(bundle.arrays)
    stem = arrays.pop("conv1.weight")
    for change, reason in (
        ({}, "lack conv1.weight"),
        ({"conv1.weight": stem[:, :2]}, r"conv1.weight has the shape \(16, 2, 3, 3\)"),
        ({"conv1.weight": stem, "conv9.weight": stem}, "have conv9.weight, which"),
    ):
        with pytest.raises(InputError, match=reason):
            resnetkit.Bundle(
                network=bundle.network,
                arrays={**arrays, **change},
                preprocess=PREPROCESS,
                classes=CLASSES,
            )


def test_unwritable_target(bundle: resnetkit.Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write .*there is no folder"):
        bundle.save(tmp_path / "none" / "net.safetensors")


def test_full_disk_leaves_the_old_file(bundle: resnetkit.Bundle, tmp_path: Path) -> None:
    """A limit on the size of files stops the write in the middle, as a full disk does."""
    path = saved(bundle, tmp_path)
    before = path.read_bytes()
    program = (
        "import resnetkit, sys\n"
        "bundle = resnetkit.load(sys.argv[1])\n"
        "try:\n"
        "    bundle.save(sys.argv[1])\n"
        "except resnetkit.InputError as error:\n"
        "    sys.exit(str(error))\n"
    )
    limit = len(before) // 2
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]

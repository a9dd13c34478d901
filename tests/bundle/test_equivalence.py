"""The proof: what it allows, what it refuses, and that a refusal leaves the target as it was."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import resnetkit
from resnetkit.bundle import equivalence
from resnetkit.bundle.bundle import load as load_bundle
from resnetkit.bundle.equivalence import (
    EQUAL,
    FOLDED,
    OutputComparison,
    answers,
    compare,
    images,
    tolerance,
)
from resnetkit.checkpoints import writing
from resnetkit.cli.main import main
from resnetkit.errors import InputError
from resnetkit.formats import safetensors_writer
from resnetkit.formats.safetensors import DTYPES
from resnetkit.hub.conversion import convert
from resnetkit.hub.weights import load
from running_statistics import draw_statistics

SMALL: dict[str, Any] = {"depths": (1, 1), "widths": (8, 8), "num_classes": 3}


def bundle_of(name: str = "resnet50", **options: Any) -> resnetkit.Bundle:
    torch.manual_seed(1)
    module = resnetkit.build(name, **{**SMALL, **options})
    draw_statistics(module)
    return resnetkit.Bundle.from_module(module, preprocess=resnetkit.Preprocess(size=32))


def in_type(bundle: resnetkit.Bundle, dtype: torch.dtype) -> resnetkit.Bundle:
    return replace(
        bundle,
        arrays={k: v.to(dtype) if v.is_floating_point() else v for k, v in bundle.arrays.items()},
    )


# ------------------------------------------------------------------------------ arithmetic


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_relative_differences() -> None:
    assert compare(floats(1.0, -4.0), floats(1.0, -3.0)).relative == 0.25
    assert OutputComparison(difference=0.0, largest=0.0).relative == 0
    assert OutputComparison(difference=1.0, largest=0.0).relative == math.inf
    assert compare(floats(1.0), floats(math.nan)).relative == math.inf
    with np.errstate(invalid="ignore"):
        assert compare(floats(math.inf), floats(math.inf)).relative == math.inf


def test_tolerances() -> None:
    for dtype in ("float32", "float16", "bfloat16"):
        assert tolerance(dtype, folded=False) == EQUAL
    assert tolerance("float32", folded=True) == tolerance("int64", folded=True) == FOLDED
    assert tolerance("float16", folded=True) == 2.0**-8
    assert tolerance("bfloat16", folded=True) == 2.0**-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_folding_stays_within_its_tolerance(dtype: torch.dtype, tmp_path: Path) -> None:
    done = convert(in_type(bundle_of(), dtype), tmp_path / "a.pth", to="caffe2")
    relative = done.difference / done.largest
    assert 0 < relative <= tolerance(str(dtype).removeprefix("torch."), folded=True)
    if dtype is not torch.float32:
        assert relative > FOLDED  # the tolerance of half precision is needed


def test_weights_are_asked_for_once_and_let_go() -> None:
    bundle = bundle_of("seresnet50")
    asked: list[str] = []

    class Asked(dict[str, np.ndarray]):
        def __getitem__(self, name: str) -> np.ndarray:
            asked.append(name)
            return super().__getitem__(name)

    pixels = images(3, 32)
    expected = bundle.module()(torch.from_numpy(pixels)).detach().numpy()
    assert np.array_equal(answers(bundle.network, Asked(bundle.numbers), pixels), expected)
    assert sorted(asked) == sorted(bundle.arrays)


@pytest.mark.parametrize("num_classes", [3, None])
@pytest.mark.parametrize("in_chans", [1, 3, 5])
def test_engines_answer_where_torch_is_not_installed(
    in_chans: int, num_classes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    module = resnetkit.build("resnet18", **{**SMALL, "num_classes": num_classes}, in_chans=in_chans)
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    pixels = images(in_chans, 32)
    expected = answers(module.network, weights, pixels)
    monkeypatch.setattr(equivalence, "installed", lambda _: False)
    found = answers(module.network, weights, pixels)
    assert compare(expected.reshape(found.shape), found).relative < EQUAL


# -------------------------------------------------------------------------------- refusals


@pytest.fixture
def damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that gets one number wrong."""
    whole = writing.write

    def write(path: Path, kind: str, theirs: dict[str, np.ndarray], *rest: Any) -> None:
        name = next(name for name in theirs if "bn1" in name or "conv1_bn" in name)
        wrong = theirs[name].copy()
        wrong[0] += 1
        whole(path, kind, {**theirs, name: wrong}, *rest)

    monkeypatch.setattr(writing, "write", write)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.pkl"])
def test_a_file_that_answers_differently_is_not_written(
    name: str, damaged: None, tmp_path: Path
) -> None:
    target = tmp_path / name
    target.write_text("what was there before")
    with pytest.raises(InputError, match=r"is not written: read back, the logits differ") as caught:
        convert(bundle_of(), target, to="timm")
    assert "\n" not in str(caught.value)
    assert target.read_text() == "what was there before"
    assert list(tmp_path.iterdir()) == [target]


def test_the_command_refuses_too(damaged: None, tmp_path: Path, capsys) -> None:
    bundle_of().save(tmp_path / "a.safetensors")
    target = tmp_path / "b.pth"
    words = ["convert", str(tmp_path / "a.safetensors"), str(target), "--to", "timm"]
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "1e-05 is allowed" in err
    assert not target.exists()


def test_numbers_that_are_none_prove_nothing(tmp_path: Path) -> None:
    bundle = bundle_of()
    bundle.arrays["fc.bias"][0] = math.nan
    for to in ("bundle", "timm"):
        with pytest.raises(InputError, match=r"own logits are not finite.*identify"):
            convert(bundle, tmp_path / "a.safetensors", to=to)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"):
        convert(bundle_of(), tmp_path / "none" / "a.pth", to="timm")


# ------------------------------------------------------------------- the header that is amended


@given(
    arrays=st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(
            lambda name: name != "__metadata__"
        ),
        arrays_of.arrays(
            st.sampled_from(sorted(set(DTYPES.values()) & {*dir(np), "bool"})),
            arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
        max_size=4,
    ),
    note=st.text(st.characters(codec="utf-8"), max_size=30),
)
def test_the_formats_own_library_reads_what_is_written(
    arrays: dict[str, np.ndarray], note: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("written") / "a.safetensors"
    safetensors_writer.write(path, arrays, {"first": "x"})
    size = path.stat().st_size
    safetensors_writer.amend(path, {"note": note})
    assert path.stat().st_size == size
    with safetensors.safe_open(path, framework="np") as file:
        assert file.metadata() == {"note": note}
        assert set(file.keys()) == set(arrays)
        for name, array in arrays.items():
            found = file.get_tensor(name)
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            assert found.tobytes() == array.tobytes()


def test_there_is_room_for_so_much_only(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors_writer.write(path, {"a": np.ones(3)}, {})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="bytes of metadata too many"):
        safetensors_writer.amend(path, {"a": "x" * 2 * safetensors_writer.ROOM})
    assert path.read_bytes() == before
    with pytest.raises(InputError, match="does not support"):
        safetensors_writer.write(path, {"a": np.ones(3, np.complex128)}, {})


def test_a_bundle_that_convert_writes_is_whole(tmp_path: Path) -> None:
    """Its header was amended after the proof; the digest covers what it says now."""
    bundle = bundle_of()
    convert(bundle, tmp_path / "a.safetensors", to="bundle")
    again = load_bundle(tmp_path / "a.safetensors")
    assert again.origin["proof"]["difference"] == 0
    assert all(torch.equal(again.arrays[name], value) for name, value in bundle.arrays.items())
    path = tmp_path / "b.safetensors"
    convert(bundle, path, to="timm")
    with safetensors.safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["origin"])["proof"]["images"] == 4


# --------------------------------------------------------------------------------- memory

_PEAK = """
import re, sys
from pathlib import Path
from resnetkit.hub.conversion import convert
from resnetkit.hub.weights import load

def memory(name):
    status = Path("/proc/self/status").read_text()
    return int(re.search(name + r":\\s+(\\d+)", status)[1]) * 1024

small, large, target, to = sys.argv[1:]
convert(load(small), target, to=to)
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
convert(load(large), target, to=to)
print(memory("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak on Linux only")
@pytest.mark.parametrize(
    ("ending", "to", "name"),
    [
        (".pth", "bundle", "out.safetensors"),
        (".safetensors", "mmpretrain", "out.pth"),
        (".pth", "caffe2", "out.pkl"),
    ],
)
def test_about_one_copy_is_held(ending: str, to: str, name: str, tmp_path: Path) -> None:
    """500 MB; what four images take in the forward pass, some 100 MB, comes on top."""
    for network, file in (("resnet50", "small"), ("wide_resnet101_2", "large")):
        bundle = bundle_of(network, depths=(3, 4, 23, 3), widths=(64, 128, 256, 512))
        if file == "small":
            bundle = bundle_of(network)
        convert(bundle, tmp_path / f"{file}{ending}", to="torchvision")
    del bundle
    large = tmp_path / f"large{ending}"
    words = [tmp_path / f"small{ending}", large, tmp_path / name, to]
    # What is freed goes back at once, so that what is held is measured, and not malloc's habits.
    given = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PEAK, *map(str, words)],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert large.stat().st_size > 450 << 20
    images_take = 160 << 20
    assert int(re.findall(r"\d+", done.stdout)[-1]) <= 1.15 * large.stat().st_size + images_take
    assert load(tmp_path / name).network.options.depths == (3, 4, 23, 3)

"""``resnetkit doctor``: the facts of this machine, as text and as JSON."""

from __future__ import annotations

import json
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch

from resnetkit.cli.main import main
from resnetkit.inference.engines.engine import available
from resnetkit.inference.engines.selection import chosen
from resnetkit.report import environment
from resnetkit.report.environment import PACKAGES


def test_json_has_what_the_machine_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["packages"]["torch"] == version("torch")
    assert set(found["packages"]) == {*environment.BASE, *PACKAGES}
    assert found["processors"] == available()
    assert (found["engine"], found["engine_reason"]) == chosen()
    assert found["memory"] is None or found["memory"] > 1 << 28


def test_text_says_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = environment._version
    monkeypatch.setattr(environment, "_version", lambda n: None if n == "openvino" else there(n))
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"engine         {chosen()[0]}: {chosen()[1]}" in lines
    assert "  openvino           not installed ('resnetkit[openvino]')" in lines
    assert any(line.startswith("OMP_NUM_THREADS 0") for line in lines)
    if not environment.environment().gpus:
        assert "  - pip install 'resnetkit[openvino]': the fastest engine on a processor" in lines


@pytest.mark.parametrize(
    ("flags", "gpus", "expected"),
    [
        (("avx2",), (), None),
        (("avx512_vnni",), (), "int8"),
        (("asimddp", "i8mm"), (), None),
        (("avx512_vnni",), ("a GPU",), None),
    ],
)
def test_int8_is_advised_where_the_processor_has_it(
    flags: tuple[str, ...], gpus: tuple[str, ...], expected: str | None
) -> None:
    packages = dict.fromkeys(PACKAGES, "1.0")
    advice = " ".join(environment._advice(packages, flags, gpus))
    assert ("int8" in advice) == (expected == "int8")


def test_what_a_gpu_and_its_choices_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    # There is none here, so what torch says of one is written out.
    card = SimpleNamespace(
        name="NVIDIA H200", total_memory=140 << 30, major=9, minor=0, multi_processor_count=132
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    asked = []

    def supported(*, including_emulation: bool) -> bool:
        asked.append(including_emulation)
        return len(asked) == 1

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    gpus, training = environment._torch()
    assert gpus == ("NVIDIA H200, 140 GiB, compute capability 9.0, 132 multiprocessors, CUDA 13.0",)
    assert training.startswith("cuda, bf16 if its steps are measured faster, at the first run; ")
    assert training.endswith(
        "fp32 has convolutions in TF32; channels last; batches copied ahead from pinned memory; "
        "a fused optimizer; deterministic algorithms"
    )
    assert environment._torch()[1].startswith("cuda, fp32: this GPU has no fast bf16; ")
    assert asked == [False, False]


def test_a_system_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(environment.Path, "read_text", missing)
    flags, name = environment._processor()
    assert not flags
    assert name

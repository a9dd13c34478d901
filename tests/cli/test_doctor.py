"""``resnetkit doctor``: the facts of this machine, as text and as JSON."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest

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


def test_a_system_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(environment.Path, "read_text", missing)
    flags, name = environment._processor()
    assert not flags
    assert name

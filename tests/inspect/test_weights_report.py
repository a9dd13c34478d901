"""Reports on weights: what is wrong with them is found, and nothing else is."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

import resnetkit
from inspected import bundle_of
from resnetkit.errors import InputError
from resnetkit.inspect import WeightsReport, weights_report
from running_statistics import draw_statistics


def changed(change: Callable[[Any], None], kind: str = "basic") -> WeightsReport:
    module = bundle_of(kind).module()
    with torch.no_grad():
        change(module)
    size = bundle_of(kind).preprocess.size
    return weights_report(
        resnetkit.Bundle.from_module(module, preprocess=resnetkit.Preprocess(size=size))
    )


def test_sound_weights_have_no_findings() -> None:
    for kind in ("basic", "bottleneck", "squeeze-excitation", "group norm", "no norm"):
        report = weights_report(bundle_of(kind))
        assert report.findings == (), kind
        assert report.heading.startswith(f"{report.network.name}: no findings in ")
        assert {row.state for row in report.norms} <= {"trained"}


def test_a_fresh_network() -> None:
    report = weights_report(resnetkit.build("resnet20"))
    assert report.lines()[0].startswith(
        "warning: all 19 norms are as initialised, so the network was not trained: bn1, "
    )
    assert len(report.findings) == 1
    assert len(report.findings[0].paths) == 19
    assert {row.state for row in report.norms} == {"fresh"}


def test_a_fresh_network_with_zero_initialised_norms() -> None:
    report = weights_report(resnetkit.build("resnet20", zero_init_last=True))
    fresh, zero = report.findings
    assert len(fresh.paths) == 19
    assert zero.severity == "note"
    assert zero.text.startswith("the last norm of 9 blocks has scale 0, so they pass on")
    assert zero.paths[0] == "layer1.0"


def test_some_fresh_norms() -> None:
    def change(module: Any) -> None:
        module.layer2[0].bn1.reset_parameters()
        module.layer2[0].bn1.reset_running_stats()

    (finding,) = changed(change).findings
    assert finding.paths == ("layer2.0.bn1",)
    assert finding.text.startswith("1 of 15 norms are as initialised")


def test_statistics_that_were_reset() -> None:
    def change(module: Any) -> None:
        module.layer2[0].bn1.reset_running_stats()

    (finding,) = changed(change).findings
    assert finding.severity == "error"
    assert finding.paths == ("layer2.0.bn1",)
    assert "have the statistics of an initialisation" in finding.text


@pytest.mark.parametrize("value", [0.0, torch.nan, -1.0])
def test_lost_statistics(value: float) -> None:
    def change(module: Any) -> None:
        module.layer3[0].bn2.running_var[:] = value

    report = changed(change)
    assert [one.severity for one in report.findings] == ["error"] * (2 if value != value else 1)
    assert report.findings[-1].paths == ("layer3.0.bn2",)
    assert "lost statistics" in report.findings[-1].text
    assert {row.path for row in report.norms if row.state == "lost"} == {"layer3.0.bn2"}


def test_some_constant_channels() -> None:
    def change(module: Any) -> None:
        module.layer3[0].bn2.running_var[:2] = 0

    (finding,) = changed(change).findings
    assert finding.severity == "note"
    assert finding.text.startswith("2 channels of 1 norm have variance 0")


def test_values_that_are_not_finite() -> None:
    def change(module: Any) -> None:
        module.layer3[0].conv1.weight[0, 0] = torch.nan
        module.fc.bias[1] = torch.inf

    report = changed(change)
    (finding,) = report.findings
    assert finding.text == (
        "10 values in 2 tensors are NaN or infinite: layer3.0.conv1.weight, fc.bias"
    )
    json.dumps(report.to_dict(), allow_nan=False)


def test_dead_filters_and_outliers() -> None:
    def change(module: Any) -> None:
        module.layer1[0].conv1.weight[:3] = 0
        module.layer4[0].conv2.weight[5, 4, 1, 1] = 50
        module.layer3[0].conv1.weight[0, 0, 0, 0] = torch.inf

    report = changed(change)
    assert [one.severity for one in report.findings] == ["error", "warning", "note"]
    _, dead, out = report.findings
    assert dead.text == "3 filters of 1 layer are all zero: layer1.0.conv1"
    assert out.paths == ("layer4.0.conv2",)
    assert out.text.startswith("1 weights of 1 layer are more than 10 standard deviations")
    row = next(row for row in report.weights if row.path == "layer4.0.conv2")
    assert row.largest > 100
    assert row.outliers == 1


def test_sigma() -> None:
    bundle = bundle_of("basic")
    (finding,) = weights_report(bundle, sigma=3).findings
    values = bundle.numbers["layer4.0.conv2.weight"].astype(np.float64)
    wanted = (np.abs(values - values.mean()) > 3 * values.std()).sum()
    report = weights_report(bundle, sigma=3)
    row = next(row for row in report.weights if row.path == "layer4.0.conv2")
    assert row.outliers == wanted > 0
    assert finding.severity == "note"
    for bad in (0, -1, "3", float("nan")):
        with pytest.raises(InputError, match="sigma is"):
            weights_report(bundle, sigma=bad)


def test_files_of_other_frameworks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = torchvision.models.resnet18(num_classes=3)
    draw_statistics(module)
    module.layer2[1].bn1.reset_running_stats()
    with torch.no_grad():
        module.layer2[1].bn1.weight.mul_(0.5)
    torch.save(module.state_dict(), tmp_path / "theirs.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = weights_report(tmp_path / "theirs.pth")
    (finding,) = report.findings
    assert finding.paths == ("layer2.1.bn1",)
    bundle = bundle_of("basic")
    bundle.save(tmp_path / "ours.safetensors")
    assert weights_report(str(tmp_path / "ours.safetensors")) == weights_report(bundle)
    with pytest.raises(InputError, match=r"none.pth does not exist"):
        weights_report(tmp_path / "none.pth")


def test_half_precision() -> None:
    module = bundle_of("basic").module().to(torch.bfloat16)
    bundle = resnetkit.Bundle.from_module(module, preprocess=resnetkit.Preprocess(size=64))
    assert weights_report(bundle).findings == ()


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_module_needs_no_preprocessing(channels: int) -> None:
    module = resnetkit.build("resnet20", in_chans=channels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(weights_report(module).findings) == 1


def test_text_and_document() -> None:
    report = weights_report(bundle_of("group norm"))
    lines = str(report).splitlines()
    assert lines[0] == report.heading
    assert len(lines) == 1 + 2 * 3 + len(report.norms) + len(report.weights)
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["norms"][0]["running_var"] is None
    assert document["weights"][0]["shape"] == [64, 3, 7, 7]
    assert weights_report(bundle_of("no norm")).norms == ()

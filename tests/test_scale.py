"""docs/scale.md has what benchmarks/scale.py prints, and its arithmetic is right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "benchmarks" / "scale.py"
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False
    )


def costs(*arguments: str) -> dict[str, dict[str, Any]]:
    found = json.loads(run(*arguments, "--format", "json").stdout)["costs"]
    return {one["job"]: one for one in found}


def test_the_page_has_its_table() -> None:
    assert run().stdout in (ROOT / "docs" / "scale.md").read_text()


def test_by_hand() -> None:
    one = costs(
        "--rate", "10", "--efficiency", "0.5", "--cores", "100", "--core-price", "2",
        "--image-bytes", "1e5", "--shard-bytes", "1e8", "--request-price", "1", "--hours", "1000",
        "--storage-price", "3",
    )["a billion pictures: predict"]  # fmt: skip
    assert one["core_hours"] == pytest.approx(1e9 / 5 / 3600)
    assert one["wall_hours"] == pytest.approx(1e9 / 5 / 3600 / 100)
    assert one["cores_within_limit"] == 56
    assert one["read_bytes"] == 1e14
    # A million shards, of 12 blocks of 8 MiB and a table each.
    assert one["requests"] == 13_000_000
    assert one["requests_of_single_files"] == 1_001_000_000
    assert one["core_money"] == pytest.approx(2 * one["core_hours"])
    assert one["request_money"] == pytest.approx(13_000)
    assert one["storage_money_per_month"] == pytest.approx(300_000)


def test_training_reads_every_epoch() -> None:
    ten = costs("--epochs", "10")["ImageNet-1k: train, 10 epochs"]
    one = costs("--epochs", "1")["ImageNet-1k: train, 1 epochs"]
    for name in ("core_hours", "read_bytes", "requests", "core_money"):
        assert ten[name] == pytest.approx(10 * one[name])


def test_one_line_for_a_rate_of_nothing() -> None:
    done = run("--rate", "0")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("--rate is 0; it must be above 0")

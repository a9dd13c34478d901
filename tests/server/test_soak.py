"""A minute of `benchmarks/soak.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.mark.slow
def test_memory_is_flat_and_every_answer_is_the_expected_one() -> None:
    done = subprocess.run(
        [sys.executable, SOAK, "--minutes", "1", "--first", "20", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout)
    assert found["unexpected"] == {}
    assert found["growth_percent"] < 5
    assert len(found["memory_mib"]) > 50
    assert min(found["kinds"].values()) > 0
    assert found["requests"] > 1000
    assert set(found["log"]) <= {"WARNING:  Invalid HTTP request received."}

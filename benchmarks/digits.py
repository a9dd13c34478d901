"""The test accuracy of `resnetkit train digits` over several seeds, with the usual choices.

.venv/bin/python benchmarks/digits.py [--seeds 7]
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from datetime import date
from pathlib import Path

import torch

from resnetkit.training.plan import plan
from resnetkit.training.run import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=7)
    seeds = parser.parse_args().seeds
    print(f"{date.today()}, Python {platform.python_version()}, torch {torch.__version__}")
    accuracies = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            test = train(plan("digits", seed=seed), Path(folder) / "run").test
        assert test is not None
        accuracies.append(test.accuracy)
        print(f"seed {seed}: {test.accuracy:.2%} of {test.images} test images", flush=True)
    print(f"n = {seeds}: {min(accuracies):.2%} to {max(accuracies):.2%}")


if __name__ == "__main__":
    main()

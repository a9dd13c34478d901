"""The test accuracy of `resnetkit train digits` over several seeds, and the goal of the demo.

.venv/bin/python benchmarks/digits.py [--seeds 20] [--first 0] [--precision auto]

The goal is what fewer than 1 run in 10,000 falls below: wrong answers of a run are taken as
Poisson-distributed, with the upper bound at 95 % of their mean over the runs measured.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from datetime import date
from pathlib import Path

import torch
from scipy.stats import chi2, poisson

from pairs import processor
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run import run_recipe

#: How seldom a run may fail.
CHANCE = 1e-4


def goal(wrong: list[int], images: int) -> float:
    """The accuracy below which a run falls with a chance of at most ``CHANCE``."""
    highest_mean = chi2.ppf(0.95, 2 * (sum(wrong) + 1)) / 2 / len(wrong)
    return float(1 - poisson.ppf(1 - CHANCE, highest_mean) / images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    args = parser.parse_args()
    print(
        f"{date.today()}, {processor()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, precision {args.precision}"
    )
    wrong: list[int] = []
    for seed in range(args.first, args.first + args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            recipe = make_recipe("digits", seed=seed, precision=args.precision)
            result = run_recipe(recipe, Path(folder) / "run")
        test = result.test
        assert test is not None
        wrong.append(round((1 - test.accuracy) * test.images))
        print(f"seed {seed}: epoch {result.best.epoch}, {test.accuracy:.2%}", flush=True)
    worst, mean = max(wrong), sum(wrong) / len(wrong)
    print(
        f"n = {args.seeds}: mean {1 - mean / test.images:.2%}, worst {1 - worst / test.images:.2%} "
        f"of {test.images} test images; goal: {goal(wrong, test.images):.2%}"
    )


if __name__ == "__main__":
    main()

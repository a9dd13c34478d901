"""How long `resnetkit explain` takes, cold, against torchinfo on the torchvision module.

.venv/bin/python benchmarks/explain.py [--runs 15]
"""

from __future__ import annotations

import argparse

from pairs import compare

THEIRS = (
    "import torchinfo, torchvision; "
    "print(torchinfo.summary(torchvision.models.resnet50(), (1, 3, 224, 224), depth=4))"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    compare(
        ("resnetkit explain", ["-m", "resnetkit", "explain", "resnet50", "--level", "layer"]),
        ("torchvision and torchinfo.summary", ["-c", THEIRS]),
        runs=parser.parse_args().runs,
        packages=("torch", "torchvision", "torchinfo"),
    )


if __name__ == "__main__":
    main()

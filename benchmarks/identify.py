"""`resnetkit identify`, cold, against a script that imports torch and loads the file.

Both are whole processes started in turn on the same 100 MB safetensors file (a torchvision
ResNet-50).

    .venv/bin/python benchmarks/identify.py [--runs 15]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import safetensors.torch
import torchvision

from pairs import compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet50.safetensors"
        safetensors.torch.save_file(torchvision.models.resnet50().state_dict(), path)
        theirs = f"import torch, safetensors.torch; safetensors.torch.load_file({str(path)!r})"
        compare(
            ("resnetkit identify", ["-m", "resnetkit", "identify", str(path)]),
            ("import torch and load", ["-c", theirs]),
            runs=runs,
            packages=("torch", "safetensors"),
        )


if __name__ == "__main__":
    main()

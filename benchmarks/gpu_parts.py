"""The parts of `gpu.py`, each run by it as a process: gpu_parts.py PART ... ROWS.

A part appends its rows to ROWS as it goes. A last line with a status says why it ended early.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import torch

import gpu_files
import gpu_inference
import gpu_steps
import gpu_training
from gpu_timing import NotPossibleError, Setting, one_line
from resnetkit.inference.engines.torch import is_out_of_memory

PARTS = {
    "exactness": gpu_training.exactness,
    "training": gpu_training.training,
    "step": gpu_steps.step,
    "inference": gpu_inference.inference,
    "decoding": gpu_files.decoding,
    "server": gpu_files.server,
    "memory": gpu_steps.memory,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--data", default="")
    parser.add_argument("--miniature", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(
            device=torch.device("cpu") if args.miniature else torch.device("cuda", 0),
            miniature=args.miniature,
            deadline=time.monotonic() + args.seconds,
            data=Path(args.data).resolve() if args.data else None,
            folder=Path(folder),
            rows=args.rows,
        )
        try:
            PARTS[args.part](setting)
        except NotPossibleError as error:
            setting.put({"status": "not possible", "why": str(error)})
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            setting.put({"status": "out of memory", "why": one_line(error)})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

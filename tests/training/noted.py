"""`resnetkit` in a process of torchrun, which notes the images of each step that is made."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from unittest.mock import patch

from resnetkit.cli.main import main
from resnetkit.training.data.data_loader import Batch
from resnetkit.training.trainer import Trainer

if __name__ == "__main__":
    notes = Path(sys.argv[1], f"{os.getpid()}.jsonl")
    world, made = int(os.environ["WORLD_SIZE"]), Trainer.step

    def step(self: Trainer, epoch: int, batch: Batch) -> int:
        at, names = [epoch, self.batch], [example.name for example in batch.examples]
        count = made(self, epoch, batch)
        with notes.open("a") as file:
            file.write(json.dumps([world, at, names]) + "\n")
        return count

    with patch.object(Trainer, "step", step):
        raise SystemExit(main(sys.argv[2:]))

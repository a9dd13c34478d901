"""torchrun, torch's elastic launcher, on 127.0.0.1 with a thread for each process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import resnetkit

ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    # In whatever folder a command runs.
    "PYTHONPATH": str(Path(resnetkit.__file__).parents[1]),
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def torchrun(*words: object, **more: Any) -> subprocess.Popen[str]:
    """Start torch's elastic launcher."""
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *map(str, words)],
        env={**ENVIRONMENT, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

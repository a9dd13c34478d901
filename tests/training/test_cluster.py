"""The commands of docs/cluster.md, run on 127.0.0.1 with two launchers for two machines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from launching import ENVIRONMENT, free_port

import resnetkit
from photographs import write_classes
from resnetkit.training.epoch_log import read_log

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"
#: The page's commands train the default network for a long time.
SMALL = (
    "--model resnet20 --depths 1,1 --widths 8,16 --stem-widths 8 --size 16 --threads 1 --epochs 2"
)
STAND_INS = {
    # Every task of a step runs the same command.
    "srun": '"$@" & "$@"; code=$?; wait $! && exit $code',
    "scontrol": '[ "$1 $2 $3" = "show hostnames pair[1-2]" ] && printf "127.0.0.1\\nother\\n"',
    "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
}
SLURM = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": "pair[1-2]"}


def commands() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_classes(tmp_path / "pictures", 12, classes=("brick", "coffee", "rocket"))
    (tmp_path / "bin").mkdir()
    for name, line in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def start(script: str, place: Path, port: int, **more: str) -> subprocess.Popen[str]:
    """Run a page's commands on data that is small, with a port that is free."""
    small = script.replace("--batch-size 64", f"--batch-size 8 {SMALL}")
    small = small.replace("node1", "127.0.0.1").replace("29400", str(port))
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    return subprocess.Popen(
        ["bash", "-c", small],
        cwd=place,
        env={**ENVIRONMENT, "PATH": path, "MASTER_PORT": str(port), **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(started: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = started.communicate(timeout=300)
    assert started.returncode == 0, err
    assert "src/resnetkit" not in err, err
    return out, err


def check(place: Path, out: str) -> None:
    assert out.count("epoch 2/2") == 1, out
    assert len(read_log(place / "run")) == 2
    assert resnetkit.load(place / "run" / "best.safetensors").measured["test"]["images"] == 6


def test_the_page_has_the_commands_that_are_tried() -> None:
    one, again, two, slurm = commands()
    assert one.startswith("torchrun --nproc-per-node 2 -m resnetkit train pictures")
    assert again.endswith("-m resnetkit train --resume run\n")
    assert "--nnodes 2" in two
    assert slurm.startswith("#!/bin/bash\n#SBATCH")


@pytest.mark.slow
def test_two_machines(place: Path) -> None:
    port = free_port()
    both = [start(commands()[2], place, port) for _ in range(2)]
    check(place, "".join(end(one)[0] for one in both))


@pytest.mark.slow
def test_slurm(place: Path) -> None:
    out, _ = end(start(commands()[3], place, free_port(), **SLURM))
    check(place, out)


@pytest.mark.slow
def test_one_machine_and_slurm_again(place: Path) -> None:
    port = free_port()
    with_port = [
        text.replace("torchrun --nproc", f"torchrun --master-port {port} --nproc")
        for text in commands()[:2]
    ]
    out, _ = end(start(with_port[0], place, port))
    check(place, out)
    for again in (with_port[1], commands()[3]):
        out, _ = end(start(again, place, free_port(), **SLURM))
        assert "test accuracy" in out
        assert "epoch 1/2" not in out, "nothing is left to train"
        assert "epoch 2/2" not in out

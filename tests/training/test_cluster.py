"""The commands of docs/cluster.md: on one machine, on two hosts, and as a job of a real SLURM."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from launching import ENVIRONMENT, free_port

import resnetkit
from hosts import network, wait_until
from photographs import write_classes
from resnetkit.training.epoch_log import read_log
from slurm import cluster

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"
#: The page's commands train the default network for a long time.
SMALL = (
    "--model resnet20 --depths 1,1 --widths 8,16 --stem-widths 8 --size 16 --threads 1 --epochs "
)
#: torchrun is there, as in an activated environment.
HERE = {**ENVIRONMENT, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
COUNT = 12


def commands() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def shortened(script: str, epochs: int = 2) -> str:
    """A page's commands on data that is small."""
    assert "--batch-size 64" in script or "--resume" in script
    return script.replace("--batch-size 64", f"--batch-size 8 {SMALL} {epochs}")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_classes(tmp_path / "pictures", COUNT, classes=("brick", "coffee", "rocket"))
    return tmp_path


def check(place: Path, epochs: int = 2) -> None:
    assert [row.epoch for row in read_log(place / "run")] == list(range(1, epochs + 1))
    assert resnetkit.load(place / "run" / "best.safetensors").measured["test"]["images"] == 6


def test_the_page_has_the_commands_that_are_tried() -> None:
    one, again, two, slurm, divided = commands()
    assert one.startswith("torchrun --nproc-per-node 2 -m resnetkit train pictures")
    assert again.endswith("-m resnetkit train --resume run\n")
    assert "--nnodes 2" in two
    assert slurm.startswith("#!/bin/bash\n#SBATCH")
    assert "--fsdp" in divided


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 4])
def test_one_machine_and_again(number: int, place: Path) -> None:
    for done_before, command in enumerate((commands()[number], commands()[1])):
        with_port = command.replace("torchrun", f"torchrun --master-port {free_port()}")
        done = subprocess.run(
            ["bash", "-c", shortened(with_port)],
            cwd=place,
            env=HERE,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("epoch 2/2") == 1 - done_before, "nothing is left to train"
        assert "test accuracy" in done.stdout
        check(place)


@pytest.mark.slow
def test_two_machines_that_know_their_own_name_as_local(place: Path) -> None:
    """As Debian's installer writes /etc/hosts."""
    with network(2) as hosts:
        for host in hosts:
            names = Path("/etc/netns", host.namespace, "hosts")
            names.write_text(names.read_text().replace(host.address, "127.0.1.1"))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = ["bash", "-c", shortened(commands()[2])]
        started = [host.start(command, environment=HERE, cwd=place, **pipes) for host in hosts]
        ends = [one.communicate(timeout=300) for one in started]
    assert [one.returncode for one in started] == [0, 0], ends
    assert "".join(out for out, _ in ends).count("epoch 2/2") == 1
    check(place)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("there", "message"),
    [
        ("other", "of .*pictures differs between machines; each must have the same images"),
        ("fewer", "the images of .*pictures differ between machines; each must have all"),
        ("none", "pictures has no class folders"),
    ],
)
def test_a_machine_with_other_images(there: str, message: str, place: Path) -> None:
    classes = ("brick", "coffee", "rocket")
    write_classes(place / "other", COUNT, classes=classes, seed=1)
    write_classes(place / "fewer", COUNT - 1, classes=classes)
    (place / "none").mkdir()
    command = shortened(commands()[2]).replace("--max-restarts 3 ", "")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with network(2) as hosts:
        started = [
            host.start(["bash", "-c", script], environment=HERE, cwd=place, **pipes)
            for host, script in zip(
                hosts, (command, f"mount --bind {there} pictures && {command}"), strict=True
            )
        ]
        ends = [one.communicate(timeout=300) for one in started]
    errors = "".join(err for _, err in ends)
    (line,) = [one for one in errors.splitlines() if one.startswith("resnetkit: ")]
    assert re.search(message, line), errors
    if there == "none":
        assert re.match(r"resnetkit: (process 1 on node2: )?/", line), line
    assert not (place / "run").exists()


@pytest.mark.slow
def test_slurm(place: Path) -> None:
    """A job on two nodes is requeued in the middle, and goes on there."""
    script, epochs = place / "job.sh", 20
    script.write_text(shortened(commands()[3], epochs))
    printed = place / "slurm-1.out"
    with network(2) as hosts, cluster(hosts, place / "slurm", **HERE) as slurm:
        number = slurm.run("sbatch", "--parsable", script, cwd=place).strip()
        assert number == "1"

        def began() -> bool:
            ended = slurm.job(number)["JobState"] in ("FAILED", "COMPLETED")
            assert not ended, printed.read_text()
            return (place / "run" / "log.jsonl").exists()

        wait_until(began, "an epoch", 120)
        slurm.run("scontrol", "requeue", number)
        ends = ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL")
        wait_until(lambda: slurm.job(number)["JobState"] in ends, "the end of the job", 240)
        job = slurm.job(number)
    text = printed.read_text()
    assert (job["JobState"], job["Restarts"], job["NumNodes"]) == ("COMPLETED", "1", "2"), text
    assert "DUE TO JOB REQUEUE" in text
    # The checkpoint is of the step at which SLURM's SIGTERM came.
    (done,) = re.findall(r"^continuing in epoch \d+, after (\d+) images of it$", text, re.MULTILINE)
    assert int(done) % 8 == 0
    shown = [int(n) for n in re.findall(rf"^epoch +(\d+)/{epochs} ", text, re.MULTILINE)]
    assert shown == sorted(set(shown)), "none is trained twice"
    # srun may no longer print the one that ends after the signal.
    assert len(shown) >= epochs - 1
    check(place, epochs)


@pytest.mark.slow
def test_srun_without_torchrun_is_said(place: Path) -> None:
    """Two runs, the second of which finds the first one's folder; the script itself is one task."""
    script, train = place / "job.sh", f"{sys.executable} -m resnetkit train pictures {SMALL} 1"
    script.write_text(
        "#!/bin/bash\n#SBATCH --nodes=2 --ntasks=2\n"
        f"srun --kill-on-bad-exit=0 {train} --out run\n{train} --out other\n"
    )
    with network(2) as hosts, cluster(hosts, place / "slurm", **HERE) as slurm:
        number = slurm.run("sbatch", "--parsable", script, cwd=place).strip()
        ends = ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL")
        wait_until(lambda: slurm.job(number)["JobState"] in ends, "the end of the job", 240)
    text = (place / f"slurm-{number}.out").read_text()
    said = "srun has started 2 tasks, and this run has only one of them"
    assert text.count(said) == 2, text
    assert "give another --out" in text
    assert text.count("epoch 1/1") == 2
    assert (place / "run" / "best.safetensors").exists()
    assert (place / "other" / "best.safetensors").exists()

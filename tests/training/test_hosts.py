"""A job on three hosts of which one is cut off: it goes on, waits, or is resumed, with no image
lost and none counted twice."""

from __future__ import annotations

import itertools
import json
import math
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from launching import ENVIRONMENT

import resnetkit
from hosts import Host, network, wait_until
from resnetkit.training.epoch_log import read_log

EPOCHS = 5
#: With norms over the whole batch a run does not depend on the number of processes.
WORDS = (
    f"digits --model resnet20 --depths 1,1 --widths 16,32 --size 8 --epochs {EPOCHS} --sync-bn "
    "--batch-size 48 --threads 1 --precision fp32"
).split()
CHOICES = {
    "size": 8,
    "epochs": EPOCHS,
    "batch_size": 48,
    "threads": 1,
    "precision": "fp32",
    "sync_bn": True,
}


@dataclass
class Job:
    """A job of torchrun, whose processes note their steps."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    started: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def start(
        self, hosts: Sequence[Host], nodes: str, *words: object, again: Sequence[Host] = ()
    ) -> None:
        """Start it on ``hosts``, the first of which has the rendezvous, or only ``again``."""
        (self.folder / "notes").mkdir(exist_ok=True)
        for host in again or hosts:
            with (self.folder / f"{host.name}.out").open("a") as out:
                self.started[host.name] = host.start(
                    [
                        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", nodes),
                        *("--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "17"),
                        *("--rdzv-endpoint", f"{hosts[0].name}:29400", "--max-restarts", "3"),
                        *("--rdzv-conf", "last_call_timeout=3"),
                        *(Path(__file__).with_name("noted.py"), self.folder / "notes", "train"),
                        *("--checkpoint-minutes", "0", "--network-timeout", "5", *words),
                    ],
                    environment={**ENVIRONMENT, **self.environment},
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )

    def said(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("node*.out")))

    def attempts(self) -> list[dict[tuple[int, int], list[str]]]:
        """The images of each step of all processes, for each start of the processes in order.

        Those that start together begin at the same step, each start later than the one before.
        """
        found: dict[tuple[tuple[int, int], int], dict[tuple[int, int], list[str]]] = {}
        for path in (self.folder / "notes").iterdir():
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            steps = {(epoch, batch): names for _, (epoch, batch), names in lines}
            if steps:
                joined = found.setdefault((min(steps), lines[0][0]), {})
                for at, names in steps.items():
                    joined.setdefault(at, []).extend(names)
        return [found[key] for key in sorted(found, key=lambda key: key[0])]

    def wait_for_step(self, epoch: int, attempt: int = 0) -> None:
        """Wait until an attempt is in the middle of an epoch."""

        def reached() -> bool:
            found = self.attempts()
            return len(found) > attempt and max(found[attempt]) > (epoch, 5)

        wait_until(reached, f"epoch {epoch}: {self.said()}", 120)

    def wait(self, names: Sequence[str], code: int = 0) -> None:
        ends = [self.started[name].wait(timeout=180) for name in names]
        assert ends == [code] * len(names), self.said()

    def check(self, attempts: int, lost: int) -> None:
        """Each image once an epoch, at most ``lost`` steps made again; accurate as undisturbed."""
        found, kept = self.attempts(), dict[tuple[int, int], list[str]]()
        assert len(found) == attempts, self.said()
        for earlier, later in itertools.pairwise(found):
            again = [at for at in earlier if at >= min(later)]
            assert len(again) <= lost, again
            print(f"continued at {min(later)}, made again: {again}")
        for steps in found:
            # What came after the last checkpoint did not count.
            kept = {at: names for at, names in kept.items() if at < min(steps)} | steps
        train = list(json.loads((self.run / "split.json").read_text())["parts"]["train"])
        for epoch in range(EPOCHS):
            names = Counter(n for at, found in kept.items() if at[0] == epoch for n in found)
            assert names == Counter(train), epoch
        assert [row.epoch for row in read_log(self.run)] == list(range(1, EPOCHS + 1))
        test = resnetkit.load(self.run / "best.safetensors").measured["test"]
        reference = undisturbed(self.folder / "undisturbed")
        error = math.sqrt(reference * (1 - reference) / test["images"])
        assert test["images"] == 359
        assert test["accuracy"] > reference - 3 * error
        print(f"accuracy {test['accuracy']:.4f}, undisturbed {reference:.4f}")


def undisturbed(folder: Path) -> float:
    network = resnetkit.network("resnet20", depths=(1, 1), widths=(16, 32))
    result = resnetkit.train("digits", network, out=folder, **CHOICES)
    assert result.test is not None
    assert result.test.accuracy > 0.8
    return result.test.accuracy


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.mark.slow
def test_the_others_go_on(job: Job) -> None:
    with network(3) as hosts:
        job.start(hosts, "2:3", *WORDS, "--out", job.run)
        job.wait_for_step(1)
        hosts[2].unplug()
        # Nothing tells the others; they wait for the network's timeout.
        job.wait_for_step(1, attempt=1)
        hosts[2].kill()
        job.wait(["node1", "node2"])
    assert "the run had 3 process(es) and has 2 now" in job.said()
    job.check(attempts=2, lost=1)


@pytest.mark.slow
def test_the_others_wait_for_it(job: Job) -> None:
    # Else torchrun (2.14) tells a torchrun that starts later no address.
    job.environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    with network(3) as hosts:
        job.start(hosts, "3", *WORDS, "--out", job.run)
        job.wait_for_step(1)
        hosts[2].unplug()
        hosts[2].kill()
        hosts[2].plug()
        wait_until(lambda: "the network to it has failed" in job.said(), "the timeout", 60)
        job.start(hosts, "3", *WORDS, "--out", job.run, again=hosts[2:])
        job.wait(["node1", "node2", "node3"])
    job.check(attempts=2, lost=1)


@pytest.mark.slow
def test_the_host_of_the_rendezvous_dies_and_the_run_is_resumed(job: Job) -> None:
    """By one host, which is stopped, and then by two."""
    with network(3) as hosts:
        job.start(hosts, "2:3", *WORDS, "--out", job.run)
        job.wait_for_step(1)
        hosts[0].kill()
        job.wait(["node2", "node3"], 1)
        job.start(hosts[1:2], "1", "--resume", job.run)
        job.wait_for_step(2, attempt=1)
        job.started["node2"].send_signal(signal.SIGTERM)
        job.started["node2"].wait(timeout=60)
        job.start(hosts[1:], "2", "--resume", job.run)
        job.wait(["node2", "node3"])
    assert "the run had 3 process(es) and has 1 now" in job.said()
    assert "the run had 1 process(es) and has 2 now" in job.said()
    job.check(attempts=3, lost=1)

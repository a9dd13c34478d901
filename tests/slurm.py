"""A SLURM cluster of Debian's packages on the hosts of ``hosts.network``."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hosts import Host, wait_until

#: Without cgroups, accounts and a database.
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={sockets}/munge,cred_expire=5
CredType=cred/munge
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=20
StateSaveLocation={folder}/state
SlurmdSpoolDir={sockets}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
NodeName={nodes} CPUs=1 State=UNKNOWN
PartitionName=all Nodes={nodes} Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster; its ``environment`` is that of SLURM's commands."""

    controller: Host
    environment: dict[str, str]

    def run(self, *words: str | Path, **more: Any) -> str:
        """What a command prints."""
        done = self.controller.run(words, environment=self.environment, **more)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return str(done.stdout)

    def job(self, number: str) -> dict[str, str]:
        """The fields of a job."""
        shown = self.run("scontrol", "--oneliner", "show", "job", number)
        return dict(field.split("=", 1) for field in shown.split() if "=" in field)


@contextmanager
def cluster(hosts: Sequence[Host], folder: Path, **environment: str) -> Iterator[Cluster]:
    """``hosts`` as nodes, the first also as the controller, with the files in ``folder``.

    The daemons end with the hosts.
    """
    # The path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True) as sockets:
        yield _started(hosts, folder, Path(sockets), environment)


def _started(
    hosts: Sequence[Host], folder: Path, sockets: Path, environment: dict[str, str]
) -> Cluster:
    controller, nodes = hosts[0], ",".join(host.name for host in hosts)
    folder.mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(
            controller=controller.name, folder=folder, sockets=sockets, nodes=nodes
        )
    )
    # Else slurmd expects a mounted /sys/fs/cgroup, though nothing uses it.
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    made = Cluster(
        controller=controller,
        environment={**environment, "SLURM_CONF": str(configuration)},
    )

    def daemon(host: Host, *words: str) -> None:
        with (folder / f"{words[0]}.{host.name}.out").open("w") as out:
            host.start(words, environment=made.environment, stdout=out, stderr=subprocess.STDOUT)

    # The hosts share the disk, so one munged answers all of them through its socket.
    paths = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    daemon(controller, "munged", "--force", "--foreground", f"--socket={sockets}/munge", *paths)
    wait_until((sockets / "munge").exists, "munged", 20)
    daemon(controller, "slurmctld", "-D", "-c")
    for host in hosts:
        daemon(host, "slurmd", "-D")
    asked = ["sinfo", "--noheader", "--Node", "--states=idle"]
    wait_until(lambda: _count(made, asked) == len(hosts), f"{len(hosts)} idle nodes", 60)
    return made


def _count(made: Cluster, words: Sequence[str]) -> int:
    # The controller may not answer yet.
    done = made.controller.run(words, environment=made.environment)
    return len(done.stdout.splitlines()) if done.returncode == 0 else 0

"""The one line of a job on a cluster, and its metrics, asked for over HTTP."""

from __future__ import annotations

import math
import re
import socket
import urllib.request

import pytest

from resnetkit.cluster import Progress
from resnetkit.errors import InputError
from resnetkit.report.console import cluster
from resnetkit.report.cost import Prices

STATES = [
    Progress(images=100, unreadable=1, kept=100, total=1000, partitions=1, of=10, cpus=4),
    Progress(images=600, unreadable=3, kept=100, total=1000, partitions=6, of=10, cpus=4, lost=1),
]


def clock(monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> None:
    times = iter(seconds)
    monkeypatch.setattr(cluster.time, "perf_counter", lambda: next(times))


def test_a_plain_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ready at 10 s, then 500 images in 50 s."""
    clock(monkeypatch, [10, 60, 60])
    with cluster._Watch(Prices(core_price=0.9), None) as watch:
        watch.show(STATES[0])
        watch.show(STATES[1])
        assert watch.summary(STATES[1]) == (
            "50.0 s, 10 images/s on 4 cores, 0.0556 core hours for 0.05"
        )
    assert capsys.readouterr().err == (
        "resnetkit: 600 of 1,000 images, 10 images/s, 0:40 left, 3 unreadable, 1 machine lost, "
        "0.0556 core hours for 0.05\n"
    )


def test_shards_have_no_total(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = Progress(images=0, unreadable=0, kept=0, total=None, partitions=0, of=10, cpus=1)
    clock(monkeypatch, [10, 20])
    with cluster._Watch(Prices(), None) as watch:
        watch.show(unknown)
        watch.show(unknown)
    assert capsys.readouterr().err == ""
    clock(monkeypatch, [10, 40])
    with cluster._Watch(Prices(), None) as watch:
        watch.show(unknown)
        watch.show(unknown)
    text = capsys.readouterr().err
    assert text == "resnetkit: 0 images, 0 of 10 files, 0.00833 core hours\n"


def test_metrics() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = one.getsockname()[1]
        taken = cluster._Watch(Prices(), port)
        with pytest.raises(InputError, match=f"metrics_port is {port}, which cannot be opened"):
            taken.__enter__()
    with cluster._Watch(Prices(), port) as watch:
        for state in STATES:
            watch.show(state)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    found = dict(re.findall(r"(?m)^resnetkit_predict_(\w+) (\S+)$", text))
    assert set(found) == set(cluster.METRICS)
    values = {name: float(value) for name, value in found.items()}
    assert (values["images"], values["images_kept"], values["images_expected"]) == (600, 100, 1000)
    assert (values["unreadable_images"], values["lost_machines"], values["cores"]) == (3, 1, 4)
    assert (values["files"], values["files_expected"]) == (6, 10)
    assert values["images_per_second"] > 0
    assert math.isnan(values["cost"])
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)

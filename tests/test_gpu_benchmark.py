"""`benchmarks/gpu.py`, which is written for a card that is lent for minutes: parts that hang, crash
or find no memory lose only themselves, and what is there is not repeated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))
import gpu  # noqa: E402
import gpu_parts  # noqa: E402
from gpu_timing import (  # noqa: E402
    Contender,
    NotPossibleError,
    Runner,
    Setting,
    published_peak,
    race,
)

# Other benchmarks have the names of folders of tests.
sys.path.remove(str(BENCHMARKS))

#: Beginning of a part's program: the file of its rows is its last argument.
WRITES = """
import json, os, signal, subprocess, sys, time
def row(**values):
    with open(sys.argv[-1], "a") as stream: stream.write(json.dumps(values) + chr(10))
row(table="a", what="first")
"""


def run(code: str, seconds: float = 60.0) -> dict:
    return gpu.run_part([sys.executable, "-c", WRITES + code], seconds, dict(os.environ))


def test_a_part_that_ends() -> None:
    found = run("row(table='a', what='second')")
    assert (found["status"], found["why"]) == ("done", "")
    assert [one["what"] for one in found["rows"]] == ["first", "second"]


def test_a_part_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    found = run(
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(mark)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)",
        seconds=3.0,
    )
    assert found["status"] == "out of time"
    assert found["why"] == "ended after 3 s"
    assert [one["what"] for one in found["rows"]] == ["first"]
    assert 3 <= found["seconds"] < 30
    for _ in range(100):
        state = Path(f"/proc/{mark.read_text()}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.1)
    else:
        pytest.fail("what the part started is still running")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV: it printed nothing"),
        ("print('about to'); os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("raise SystemExit('CUDA error: an illegal access')", "exit code 1: CUDA error: an ill"),
        ("1 / 0", "exit code 1: ZeroDivisionError: division by zero"),
    ],
)
def test_a_part_that_crashes(code: str, why: str) -> None:
    found = run(code)
    assert found["status"] == "crashed"
    assert found["why"].startswith(why)
    assert [one["what"] for one in found["rows"]] == ["first"]


def test_a_line_that_is_half_written_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text('{"table": "a"}\n{"table": "b')
    assert list(gpu.lines_of(path)) == [{"table": "a"}]
    assert list(gpu.lines_of(tmp_path / "none")) == []


# ---------------------------------------------------------------- a part's own endings


def without_memory() -> None:
    torch.empty(1 << 50, dtype=torch.uint8)


def without_server() -> None:
    raise NotPossibleError("no server")


@pytest.mark.parametrize(
    ("part", "status", "why"),
    [
        (without_memory, "out of memory", "allocate memory"),
        (without_server, "not possible", "no server"),
    ],
)
@pytest.mark.filterwarnings("default")  # whose filters are restored
def test_a_part_says_why_it_ended(
    part: Callable[[], None], status: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both(setting: Setting) -> None:
        setting.write("a table", what="a row")
        part()

    monkeypatch.setitem(gpu_parts.PARTS, "memory", both)
    rows = tmp_path / "rows"
    monkeypatch.setattr(sys, "argv", ["gpu_parts.py", "memory", "--miniature", str(rows)])
    assert gpu_parts.main() == 0
    found = gpu.ended(0, False, 60, "", list(gpu.lines_of(rows)))
    assert found["status"] == status
    assert why in found["why"]
    assert "\n" not in found["why"]
    assert found["rows"] == [{"table": "a table", "what": "a row"}]


# --------------------------------------------------------------- resumed, within its time

FAKE = """
import json, sys
from pathlib import Path
log = Path(__file__).with_name("log")
log.write_text((log.read_text() if log.exists() else "") + sys.argv[1] + " ")
if sys.argv[1] == "step" and log.read_text().count("step") == 1: sys.exit("the first time")
Path(sys.argv[-1]).write_text(json.dumps({"table": "t", "what": sys.argv[1], "rate": 1.5}))
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs all parts with a program of a moment; returns the parts that it ran."""
    place = tmp_path / "benchmarks"
    place.mkdir()
    (place / "gpu_parts.py").write_text(FAKE)
    monkeypatch.setattr(gpu, "HERE", place)
    found = {
        "usable": True, "executable": sys.executable, "missing": [], "python": "3", "packages": {},
        "date": "today", "cpus": 1, "gpus": [], "miniature": True,
    }  # fmt: skip
    monkeypatch.setattr(gpu, "environment", lambda *_: (found, dict(os.environ)))
    (tmp_path / "out").mkdir()

    def ran(seconds: float = 1000.0, **choices: object) -> str:
        (place / "log").touch()
        before = (place / "log").read_text()
        args = Namespace(only=[p.name for p in gpu.PARTS], data="", miniature=True, python=None)
        vars(args).update(choices)
        assert gpu.run_parts(args, tmp_path / "out", time.monotonic() + seconds) == 0
        return (place / "log").read_text()[len(before) :]

    return ran


def test_what_is_there_is_not_repeated(bench: Callable[..., str], tmp_path: Path) -> None:
    names = [part.name for part in gpu.PARTS]
    assert bench(only=["exactness"]).split() == ["exactness"]
    assert bench().split() == names[1:]
    # The one that crashed is.
    assert bench().split() == ["step"]
    assert bench() == ""
    # Those in miniature are nothing for a GPU.
    assert bench(miniature=False).split() == names
    (tmp_path / "out" / "server.json").write_text("{")
    assert bench(miniature=False).split() == ["server"]
    # A lent machine hands back eight files at most.
    assert len(list((tmp_path / "out").iterdir())) == 8
    text = "\n".join(gpu.summary(tmp_path / "out"))
    assert "## step: done" in text
    assert "| what | rate |\n|---|---|\n| step | 1.5 |" in text


def test_without_time_nothing_begins(
    bench: Callable[..., str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert bench(seconds=gpu.LEAST - 1) == ""
    assert "memory: no time left" in capsys.readouterr().out
    assert "## memory: not measured" in "\n".join(gpu.summary(tmp_path / "out"))


def test_the_limits_fit_into_six_minutes() -> None:
    # A part that ends early leaves its time to the later ones; the first are never short.
    assert sum(part.seconds for part in gpu.PARTS[:4]) <= 330
    assert [part.name for part in gpu.PARTS] == list(gpu_parts.PARTS)


def test_a_machine_without_torch_or_gpu(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    words = [str(BENCHMARKS / "gpu.py"), "--out", str(tmp_path / "out"), "--python", str(bare)]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    assert done.returncode == 2
    assert f"no Python here has torch and a GPU ({bare}: no torch)" in done.stderr
    assert "## exactness: not measured" in done.stdout
    kept = json.loads((tmp_path / "out" / "environment.json").read_text())
    assert not kept["usable"]
    assert "torch" in kept["missing"]


@pytest.mark.slow
def test_wheels_that_were_brought_are_installed(tmp_path: Path) -> None:
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    assert gpu.installed(sys.executable, wheels, site, os.environ) == f"no wheels in {wheels}"
    wheels.mkdir()
    about = "brought-1.0.dist-info"
    with zipfile.ZipFile(wheels / "brought-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("brought.py", "there = True\n")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")
    assert gpu.installed(sys.executable, wheels, site, os.environ) == "1 wheels"
    assert (site / "brought.py").exists()
    (wheels / "broken-1.0-py3-none-any.whl").write_text("no archive")
    assert gpu.installed(sys.executable, wheels, site, os.environ).startswith("pip failed: ")


def test_why_a_python_is_passed_over() -> None:
    assert "No such file" in gpu.reason_of(gpu.probed("/nowhere/python", {}))
    assert gpu.reason_of({"missing": [], "gpus": []}) == "torch finds no GPU"
    crash = gpu.probed("/bin/false", {})
    assert gpu.reason_of(crash) == "it exits with 1"
    assert not gpu.usable(crash, gpu=False)


# --------------------------------------------------------------------------------- timing


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(
        device=torch.device("cpu"), miniature=True, deadline=time.monotonic() + 60, data=None,
        folder=tmp_path, rows=tmp_path / "rows",
    )  # fmt: skip


def sleeper(seconds: float, turns: list[str], name: str) -> Contender:
    def make() -> Runner:
        def run(times: int) -> None:
            turns.append(name)
            time.sleep(seconds * times)

        return run

    return Contender(name=name, batch=3, make=make, facts={"precision": "none"})


@pytest.mark.slow
def test_contenders_run_in_turn(setting: Setting) -> None:
    turns: list[str] = []
    slow, fast = sleeper(0.02, turns, "slow"), sleeper(0.005, turns, "fast")
    rows = race(setting, [slow, fast], rounds=3, seconds=0.02, warm=2)
    assert turns[-6:] == ["slow", "fast"] * 3
    assert [row["n"] for row in rows] == [3, 3]
    assert rows[0]["ratio"] == 1.0
    assert 2 < rows[1]["ratio"] < 6
    assert rows[1]["least"] <= rows[1]["images_s"] <= rows[1]["most"] < 3 / 0.005
    assert rows[0]["peak_GiB"] is None


@pytest.mark.slow
def test_one_without_memory_loses_only_itself(setting: Setting) -> None:
    def hungry() -> Runner:
        torch.empty(1 << 50, dtype=torch.uint8)
        raise AssertionError

    turns: list[str] = []
    rows = race(
        setting,
        [Contender(name="hungry", batch=3, make=hungry), sleeper(0.001, turns, "other")],
        rounds=1,
        seconds=0.001,
    )
    assert "allocate memory" in rows[0]["error"]
    assert rows[1]["ratio"] == 1.0


@pytest.mark.slow
def test_a_race_ends_with_its_time(setting: Setting) -> None:
    turns: list[str] = []
    setting.deadline = time.monotonic() + 68
    rows = race(setting, [sleeper(0.01, turns, "a")], rounds=10_000, seconds=0.01, reserve=60.0)
    assert 1 <= rows[0]["n"] < 1000
    rows = race(setting, [sleeper(0.01, turns, "late")], rounds=1, reserve=1000)
    assert rows[0]["error"] == "no time left"


def test_peaks_are_those_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = {"NVIDIA H200": 989, "NVIDIA A100-SXM4-80GB": 312, "NVIDIA L40": None, "other": None}
    for name, expected in cards.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _, name=name: name)
        assert published_peak(torch.device("cuda:0")) == expected
    assert published_peak(torch.device("cpu")) is None


# --------------------------------------------------------------------------- the miniature


@pytest.mark.slow
def test_the_miniature_of_all(tmp_path: Path) -> None:
    words = [sys.executable, str(BENCHMARKS / "gpu.py"), "--miniature", "--out", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {part.name: json.loads((tmp_path / f"{part.name}.json").read_text())
             for part in gpu.PARTS}  # fmt: skip
    assert {name: one["status"] for name, one in found.items()} == dict.fromkeys(found, "done")
    rows = {name: one["rows"] for name, one in found.items()}
    errors = [row["error"] for every in rows.values() for row in every if "error" in row]
    assert errors == []
    first, step = rows["exactness"][0], rows["exactness"][-1]
    assert first["bit_equal"]
    assert step["differs_by"] < 1e-5
    whole, again = rows["training"]
    assert again["bit_identical"]
    assert again["run"].startswith("killed in epoch 2 after batch")
    assert again["test_accuracy"] == whole["test_accuracy"]
    assert all("requests_s" in row and row["errors"] == 0 for row in rows["server"])
    assert "does not fit into the memory" in rows["memory"][-2]["said"]
    assert "in miniature: these figures mean nothing" in done.stdout
    again = subprocess.run([*words, "--seconds", "0"], capture_output=True, text=True, check=False)
    assert "no time left" not in again.stdout

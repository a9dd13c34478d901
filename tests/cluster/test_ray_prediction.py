"""`predict --on ray`: the rows of the local command, whatever is killed.

The clusters are real: on this machine, and on hosts with names and addresses of their own.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pyarrow
import pyarrow.fs
import pytest
from pyarrow import parquet

from cluster_pictures import BROKEN, COUNT
from hosts import Host, network, wait_until
from object_storage import SETTINGS, make_bucket, s3_serving
from resnetkit.cli.main import main
from resnetkit.cluster.ray_cluster import PATIENCE

BIN = Path(sys.executable).parent
QUIET = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
    "PATH": f"{BIN}:{os.environ['PATH']}",
}
Command = list[str | Path]


def command(bundle: Path, pictures: Path, out: Path, *further: str) -> Command:
    return [BIN / "resnetkit", "predict", bundle, pictures, "--on", "ray", "--out", out,
            "--engine", "openvino", "--worker-cpus", "1", "--partition-size", "16",
            *further]  # fmt: skip


def run(arguments: Command, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(one) for one in arguments],
        env={**os.environ, **QUIET, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def rows(out: Path) -> pyarrow.Table:
    """The rows of all files by their names, or those of a file."""
    files = sorted(out.glob("part-*")) if out.is_dir() else [out]
    return pyarrow.concat_tables([parquet.read_table(path) for path in files])


@pytest.fixture(scope="module")
def local(bundle: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> pyarrow.Table:
    out = tmp_path_factory.mktemp("local") / "local.parquet"
    done = run([BIN / "resnetkit", "predict", bundle, pictures, "--engine", "openvino",
                "--out", out])  # fmt: skip
    assert done.returncode == 1, done.stderr
    found = rows(out)
    assert len(found) == COUNT
    assert found["problem"].null_count == COUNT - len(BROKEN)
    return found


def assert_same(out: Path, local: pyarrow.Table) -> None:
    """Every row once, in the same order, bit for bit."""
    assert rows(out).replace_schema_metadata() == local.replace_schema_metadata()
    assert (out / "_SUCCESS").exists()


@pytest.mark.slow
def test_the_rows_of_the_local_command(
    bundle: Path, pictures: Path, local: pyarrow.Table, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = run(command(bundle, pictures, out, "--workers", "1", "--core-price", "0.05"))
    assert first.returncode == 1, first.stderr
    assert_same(out, local)
    whole = f"{COUNT} images in {COUNT // 16 + 1} files"
    assert f"{whole}: {out}\n" in first.stdout
    assert re.search(r"[\d.]+ s, \d+ images/s on 1 cores, \S+ core hours for \S+\n", first.stdout)
    # On a slow machine a line of progress comes before it.
    said = "resnetkit: 2 of them could not be read; the column problem says why"
    assert first.stderr.splitlines()[-1] == said
    # A restart computes what is not there; nothing that is there.
    gone = [out / f"part-{number:06}.parquet" for number in (0, 7)]
    kept = {p: p.stat().st_mtime_ns for p in out.glob("part-*") if p not in gone}
    for path in gone:
        path.unlink()
    again = run(command(bundle, pictures, out))
    assert again.returncode == 1, again.stderr
    assert f"{whole}, {COUNT - 32} of them were there before" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert_same(out, local)
    # Another question does not go into the same folder.
    other = run(command(bundle, pictures, out, "--topk", "2"))
    assert other.returncode == 2
    assert "another run (another topk)" in other.stderr
    assert_same(out, local)


@pytest.mark.parametrize(
    ("further", "message"),
    [
        (["--address", "127.0.0.1:1"], "no Ray cluster at 127.0.0.1:1: Connection refused; give"),
        (["--address", "ray://127.0.0.1:10001"], "run the command on a machine of the cluster"),
        (["--address", "node:0"], "no Ray cluster at node:0: "),
        (["--address", "127.0.0.1"], "--address is 127.0.0.1; give HOST:PORT"),
        (["--workers", "0"], "--workers is 0"),
        (["--core-price=-1"], "--core-price is -1"),
        (["--metrics-port", "0"], "--metrics-port is 0"),
        (["--format", "csv"], "a cluster writes parquet"),
        (["--null"], "not for a cluster"),
    ],
)
def test_one_line_and_nothing_written(
    bundle: Path,
    pictures: Path,
    tmp_path: Path,
    further: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, *arguments = command(bundle, pictures, tmp_path / "out", *further)
    assert main([str(one) for one in arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert not list(tmp_path.glob("out/part-*"))


def test_an_address_of_something_else(
    bundle: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as the dashboard's: Ray itself would end the process after a minute without a word."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_port}"
    _, *arguments = command(bundle, pictures, tmp_path / "out", "--address", address)
    assert main([str(one) for one in arguments]) == 2
    server.shutdown()
    server.server_close()
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"resnetkit: no Ray cluster at {address}: something else answers there, such as the "
        "dashboard; give HOST:PORT of its head, whose port is 6379 by default"
    )


def test_an_address_of_the_environment_is_checked_too(
    bundle: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:10001")
    _, *arguments = command(bundle, pictures, tmp_path / "out")
    assert main([str(one) for one in arguments]) == 2
    assert "run the command on a machine of the cluster" in capsys.readouterr().err


def test_options_of_a_cluster_without_one(
    bundle: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(bundle), str(pictures), "--workers", "2"]) == 2
    assert "--workers is for a cluster; give --on as well" in capsys.readouterr().err
    assert main(["predict", str(bundle), "-", "--on", "ray", "--out", "out"]) == 2
    assert "names on standard input are not for a cluster" in capsys.readouterr().err
    assert main(["predict", str(bundle), str(pictures), "--on", "ray"]) == 2
    assert "a cluster writes to a folder; give --out" in capsys.readouterr().err


@contextmanager
def cluster(count: int, *further: str, **environment: str) -> Iterator[list[Host]]:
    """A head without processors, on which the command runs, and ``count`` hosts with one each,
    ``further`` options and variables."""
    with network(count + 1) as hosts:
        start_ray(hosts, *further, **environment)
        yield hosts


def start_ray(hosts: list[Host], *further: str, **environment: str) -> None:
    head, *others = hosts
    ray = [BIN / "ray", "start", "--disable-usage-stats"]
    here = ["--head", "--port", "6379", "--num-cpus", "0", "--include-dashboard", "false"]
    at = ["--node-ip-address", head.address]
    done = head.run([*ray, *here, *at], environment=QUIET)
    assert done.returncode == 0, done.stderr
    for host in others:
        at = ["--address", f"{head.address}:6379", "--node-ip-address", host.address]
        joined = host.run(
            [*ray, *at, "--num-cpus", "1", *further], environment={**QUIET, **environment}
        )
        assert joined.returncode == 0, joined.stderr


def parts(out: Path) -> int:
    return len(list(out.glob("part-*")))


def more_than(count: int, out: Path) -> bool:
    return parts(out) > count


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("loss", ["a worker", "a machine", "a link"])
def test_what_is_killed_is_done_by_others(
    bundle: Path, pictures: Path, local: pyarrow.Table, tmp_path: Path, loss: str
) -> None:
    out = tmp_path / "out"
    with cluster(2) as (head, first, second):
        address = ("--address", f"{head.address}:6379")
        process = head.start(
            command(bundle, pictures, out, *address, "--batch-size", "1"),
            environment=QUIET, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        wait_until(lambda: parts(out) >= 2, "two files", 120)
        if loss == "a machine":
            second.kill()
        elif loss == "a link":
            second.unplug()
        else:
            workers = [pid for pid in first.processes() if b"MapWorker" in _title(pid)]
            assert workers
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
        assert parts(out) < COUNT // 16
        text, problems = process.communicate(timeout=300)
        assert process.returncode == 1, problems
    assert f"{COUNT} images in {COUNT // 16 + 1} files" in text
    assert_same(out, local)


def _title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_command_is_killed_and_goes_on(
    bundle: Path, pictures: Path, local: pyarrow.Table, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with cluster(1) as (head, _):
        arguments = command(bundle, pictures, out, "--address", f"{head.address}:6379")
        for way in (signal.SIGKILL, signal.SIGINT):
            more = partial(more_than, parts(out), out)
            process = head.start(
                arguments, environment=QUIET, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            wait_until(more, "a file", 120)
            os.kill(process.pid, way)
            _, problems = process.communicate(timeout=60)
            assert process.returncode == (130 if way == signal.SIGINT else -9), problems
        assert "run the same command to continue" in problems
        done = head.run(arguments, environment=QUIET)
        assert done.returncode == 1, done.stderr
        assert "of them were there before" in done.stdout
    assert_same(out, local)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("loss", ["its processes", "its machine", "its link"])
def test_the_head_is_lost_and_another_cluster_goes_on(
    bundle: Path, pictures: Path, local: pyarrow.Table, tmp_path: Path, loss: str
) -> None:
    """The command, on the head itself or on another machine, ends in time with one line."""
    # By itself Ray takes all of these hosts for one machine, and connects to the head's.
    there = (
        "import ray, sys\n"
        "ray.init(sys.argv[1], _node_ip_address=sys.argv[2], logging_level=50, "
        "log_to_driver=False)\n"
        "from resnetkit.cli.main import main\n"
        "sys.exit(main(sys.argv[3:]))\n"
    )
    out = tmp_path / "out"
    with cluster(2) as hosts:
        head, first, _ = hosts
        address = f"{head.address}:6379"
        arguments = command(bundle, pictures, out, "--address", address)
        here, program = head, [*arguments, "--batch-size", "1"]
        if loss != "its processes":
            here = first
            program[:1] = [sys.executable, "-c", there, address, first.address]
        process = here.start(
            program, environment=QUIET, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        wait_until(lambda: parts(out) >= 2, "two files", 120)
        if loss == "its processes":
            ours = [pid for pid in head.processes() if b"/ray/core/src/ray/" in _title(pid)]
            assert len(ours) == 2
            for pid in ours:
                os.kill(pid, signal.SIGKILL)
            assert head.processes()
            line = "Ray has ended on this machine"
        else:
            line = f"the head of the cluster, {address}, does not answer"
            if loss == "its machine":
                head.kill()
            else:
                head.unplug()
        assert parts(out) < COUNT // 16
        text, problems = process.communicate(timeout=PATIENCE + 25)
        assert process.returncode == 2, problems
        again = "start the cluster again, and repeat the same call to go on"
        assert problems.splitlines()[-1] == f"resnetkit: {line}; {again}"
        assert here is first or len(problems.splitlines()) == 1
        assert text == ""
        before = parts(out)
        assert 2 <= before < COUNT // 16 + 1
        for host in hosts:
            host.kill()
        head.plug()
        start_ray(hosts)
        done = head.run(arguments, environment=QUIET)
        assert done.returncode == 1, done.stderr
        assert re.search(r"19 files, \d+ of them were there before", done.stdout)
    assert_same(out, local)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_what_the_dashboard_shows(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    """The job's page has the prediction by its name, with the numbers of files."""
    with network(1) as (head,):
        started = head.run(
            [BIN / "ray", "start", "--head", "--port", "6379", "--num-cpus", "1",
             "--include-dashboard", "true", "--node-ip-address", head.address],
            environment=QUIET,
        )  # fmt: skip
        assert started.returncode == 0, started.stderr
        address = f"{head.address}:6379"
        done = head.run(
            command(bundle, pictures, tmp_path / "out", "--address", address), environment=QUIET
        )
        assert done.returncode == 1, done.stderr
        first = done.stderr.splitlines()[0]
        page = r"resnetkit: Ray's dashboard: (http://127\.0\.0\.1:8265)/#/jobs/(\w+)"
        found = re.fullmatch(page, first)
        assert found, done.stderr
        read = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
        asked = head.run(
            [sys.executable, "-c", read, f"{found[1]}/api/data/datasets/{found[2]}"],
            environment=QUIET,
        )
        (dataset,) = json.loads(asked.stdout)["datasets"]
    assert dataset["dataset"].startswith("resnetkit_predict_")
    assert dataset["state"] == "FINISHED"
    assert (dataset["progress"], dataset["total"]) == (COUNT // 16 + 1, COUNT // 16 + 1)
    assert dataset["operators"][-1]["name"] == "MapBatches(PredictionWorker)"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_worker_that_cannot_work_says_so_in_one_line(
    bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    """Without the engine's package; without the images, which are on another disk."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'openvino' else find(name, *more)\n"
    )
    out = tmp_path / "out"
    with cluster(1, PYTHONPATH=str(hidden)) as (head, other):
        address = ("--address", f"{head.address}:6379")
        done = head.run(command(bundle, pictures, out, *address), environment=QUIET)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1] == (
            f"resnetkit: on {other.address}: the engine openvino requires openvino, which is not "
            "installed; pip install 'resnetkit[openvino]'"
        )
        assert parts(out) == 0
        big = head.run(
            command(bundle, pictures, out, *address, "--worker-cpus", "3"), environment=QUIET
        )
        assert "--worker-cpus is 3, and the largest machine has 1 processors" in big.stderr
        torch = command(bundle, pictures, tmp_path / "gpu", *address, "--device", "cuda")
        torch[torch.index("openvino")] = "torch"
        none = head.run(torch, environment=QUIET)
        assert none.returncode == 2
        assert none.stderr.splitlines()[-1] == (
            "resnetkit: the cluster has no GPUs; give --device cpu"
        )
    with cluster(1, "--num-gpus", "1") as (head, other):
        # Ray is told of a GPU that is not there.
        torch[torch.index("--address") + 1] = f"{head.address}:6379"
        torch[torch.index(tmp_path / "gpu")] = tmp_path / "gpu-2"
        told = head.run(torch, environment=QUIET)
        assert told.returncode == 2
        assert f"resnetkit: on {other.address}: " in told.stderr
        assert "cuda" in told.stderr.splitlines()[-1]
    plan = json.loads((out / "_plan.json").read_text())
    assert plan["engine"] == "openvino"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_images_and_predictions_in_object_storage(
    bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    """Shards with and without an index, pictures and Parquet, on a real S3 server."""
    encoded = [path.read_bytes() for path in sorted(pictures.glob("0/*"))[:40]]
    parquet.write_table(pyarrow.table({"image": encoded}), tmp_path / "images.parquet")
    with s3_serving() as server:
        settings = {"AWS_ENDPOINT_URL": server, **SETTINGS}
        make_bucket(server, "data")
        client = boto3.client(
            "s3", endpoint_url=server, region_name="us-east-1",
            aws_access_key_id="a", aws_secret_access_key="b",
        )  # fmt: skip
        packed = run(
            [BIN / "resnetkit", "shards", pictures, "s3://data/packed", "--megabytes", "0.3"],
            **settings,
        )
        assert packed.returncode == 0, packed.stderr
        for number, data in enumerate(encoded):
            client.put_object(Bucket="data", Key=f"loose/{number:03}.png", Body=data)
        client.put_object(
            Bucket="data", Key="images.parquet", Body=(tmp_path / "images.parquet").read_bytes()
        )
        client.close()
        sources = ["s3://data/packed", "s3://data/loose", "s3://data/images.parquet",
                   "s3://data/packed/data-000000.tar"]  # fmt: skip
        alone = run(
            [BIN / "resnetkit", "predict", bundle, *sources, "--engine", "openvino",
             "--out", tmp_path / "local.parquet"],
            RESNETKIT_CACHE=str(tmp_path / "cache"), **settings,
        )  # fmt: skip
        assert alone.returncode == 1, alone.stderr
        arguments = command(bundle, Path("pictures"), Path("out"))
        arguments[3:4] = sources
        arguments[arguments.index(Path("out"))] = "s3://data/predictions"
        done = run(arguments, RESNETKIT_CACHE=str(tmp_path / "cache"), **settings)
        assert done.returncode == 1, done.stderr
        again = run(arguments, RESNETKIT_CACHE=str(tmp_path / "cache"), **settings)
        assert "of them were there before: s3://data/predictions" in again.stdout
        system = pyarrow.fs.S3FileSystem(
            endpoint_override=server, access_key="a", secret_key="b", region="us-east-1"
        )
        found = parquet.read_table("data/predictions", filesystem=system)
        wrong = run([*arguments[:-6], "--out", "s3://nowhere/x"], **settings)
        assert wrong.returncode == 2
        assert len(wrong.stderr.splitlines()) == 1
        assert "nowhere" in wrong.stderr
    local = parquet.read_table(tmp_path / "local.parquet")
    assert len(local) > COUNT + 80
    assert found.replace_schema_metadata() == local.replace_schema_metadata()


@pytest.mark.slow
def test_in_a_program_that_uses_ray(
    bundle: Path, pictures: Path, local: pyarrow.Table, tmp_path: Path
) -> None:
    """Its connection is used, and stays."""
    program = (
        "import sys, ray\n"
        "ray.init('local', num_cpus=1, include_dashboard=False)\n"
        "from resnetkit.cluster import predict_on_ray\n"
        "from resnetkit.inference.predictor import PredictOptions\n"
        "done = predict_on_ray(sys.argv[1], [sys.argv[2]], sys.argv[3],\n"
        "                      options=PredictOptions(engine='openvino'))\n"
        "print(done.images, done.unreadable, done.cpus, ray.is_initialized())\n"
    )
    out = tmp_path / "out"
    done = run([sys.executable, "-c", program, bundle, pictures, out])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{COUNT} {len(BROKEN)} 1 True"
    assert_same(out, local)


@pytest.mark.slow
def test_a_busy_cluster_is_waited_for(
    bundle: Path, pictures: Path, local: pyarrow.Table, tmp_path: Path
) -> None:
    program = (
        "import sys, time, ray\n"
        "ray.init('local', num_cpus=1, include_dashboard=False)\n"
        "held = ray.remote(num_cpus=1)(lambda: time.sleep(20)).remote()\n"
        "while ray.available_resources().get('CPU'):\n"
        "    time.sleep(0.1)\n"
        "from resnetkit.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    out = tmp_path / "out"
    done = run([sys.executable, "-c", program, *command(bundle, pictures, out)[1:]])
    assert done.returncode == 1, done.stderr
    line = "0 of the workers' 1 processors are free; workers start as other jobs end"
    assert f"resnetkit: {line}" in done.stderr.splitlines()
    assert_same(out, local)


@pytest.mark.slow
def test_a_cluster_that_asks_for_a_token(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    home = {**QUIET, "HOME": str(tmp_path), "RAY_AUTH_MODE": "token"}
    with network(1) as (head,):
        made = head.run([BIN / "ray", "get-auth-token", "--generate"], environment=home)
        assert made.returncode == 0, made.stderr
        started = head.run(
            [BIN / "ray", "start", "--head", "--port", "6379", "--num-cpus", "1",
             "--include-dashboard", "false", "--node-ip-address", head.address],
            environment=home,
        )  # fmt: skip
        assert started.returncode == 0, started.stderr
        address = f"{head.address}:6379"
        arguments = command(bundle, pictures, tmp_path / "out", "--address", address)
        refused = head.run(arguments, environment={**home, "RAY_AUTH_MODE": "disabled"})
        assert refused.returncode == 2
        assert refused.stderr.splitlines() == [
            f"resnetkit: no Ray cluster at {address}: it asks for a token: set "
            "RAY_AUTH_MODE=token, with the token in ~/.ray"
        ]
        assert parts(tmp_path / "out") == 0
        done = head.run(arguments, environment=home)
        assert done.returncode == 1, done.stderr

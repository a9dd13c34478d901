"""`resnetkit serve` as a process: many clients at once, an orderly end, and bad input."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_application import jpeg

import resnetkit
from hostile_images import hostile, traps_in

SERVE = [sys.executable, "-m", "resnetkit", "serve"]


@contextmanager
def serving(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen, str]]:
    command = [*SERVE, *map(str, arguments), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("http://127.0.0.1:"), line
            yield process, line.split()[0]
        finally:
            process.kill()


def ask(url: str, body: bytes) -> dict:
    with urllib.request.urlopen(f"{url}/predict?topk=1", data=body, timeout=60) as response:
        return json.load(response)


def test_many_clients_get_their_own_answers(bundle_file: Path) -> None:
    bodies = [jpeg(seed) for seed in range(12)]
    expected = [p.probability for p in resnetkit.load(bundle_file).predict(bodies, topk=1)]
    assert len({f"{share:.4f}" for share in expected}) > 6, "the images differ in their answers"
    with serving(bundle_file, "--engine", "onnxruntime", "--exact", "--batch-size", "4") as (
        process,
        url,
    ):
        with ThreadPoolExecutor(6) as clients:
            told = list(clients.map(lambda body: ask(url, body), bodies * 3))
        found = [one["images"][0]["predictions"][0]["probability"] for one in told]
        assert found == pytest.approx(expected * 3, abs=1e-5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM


def test_embeddings_urls_and_origins(bundle_file: Path) -> None:
    flags = ["--embeddings", "--allow-url", "--cors-origin", "https://a.org"]
    with serving(bundle_file, "--engine", "onnxruntime", "--exact", *flags) as (_, url):
        request = urllib.request.Request(f"{url}/embeddings", jpeg(0), {"origin": "https://a.org"})
        with urllib.request.urlopen(request, timeout=60) as response:
            found = json.load(response)["images"][0]["embedding"]
            assert response.headers["access-control-allow-origin"] == "https://a.org"
        [expected] = resnetkit.embed(bundle_file, [jpeg(0)], engine="torch")
        assert found == pytest.approx(expected.tolist(), abs=1e-4)
        document = json.dumps({"images": [{"url": f"{url}/health"}]}).encode()
        request = urllib.request.Request(
            f"{url}/predict", document, {"content-type": "application/json"}
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=60)
        assert caught.value.code == 422
        assert "127.0.0.1 has no public address" in json.load(caught.value)["detail"]


def test_images_that_start_programs(
    bundle_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are refused, others are answered meanwhile, and the server ends as always."""
    monkeypatch.setenv("PATH", str(traps_in(tmp_path)))
    with serving(bundle_file, "--engine", "onnxruntime") as (process, url):
        for kind, body in hostile().items():
            with pytest.raises(urllib.error.HTTPError) as refused:
                ask(url, body)
            assert refused.value.code == 422, kind
            assert "no image can be read" in refused.value.read().decode()
            assert ask(url, jpeg(0))["images"][0]["predictions"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert not (tmp_path / "ran").exists()


def test_ctrl_c(bundle_file: Path) -> None:
    with serving(bundle_file, "--engine", "onnxruntime") as (process, url):
        ask(url, jpeg(0))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def test_bad_input(bundle_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from resnetkit.cli.main import main

    headless = tmp_path / "headless.safetensors"
    resnetkit.Bundle.from_module(resnetkit.build("resnet20", num_classes=None)).save(headless)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, line in [
            ((str(bundle_file), "--port", port), f"127.0.0.1:{port}: address already in use"),
            ((str(bundle_file), "--port", "99999"), "--port is 99999"),
            ((str(bundle_file), "--batch-size", "0"), "--batch-size is 0"),
            ((str(bundle_file), "--patience", "inf"), "--patience is inf"),
            ((str(bundle_file), "--patience", "nan"), "--patience is nan"),
            (
                (str(bundle_file), "--host", "nowhere.invalid", "--insecure"),
                "cannot listen on nowhere.invalid",
            ),
            ((str(bundle_file), "--grace", "0"), "--grace is 0"),
            ((str(bundle_file), "--grace", "inf"), "--grace is inf"),
            ((str(bundle_file), "--max-requests-per-client", "0"), "--max-requests-per-client is"),
            ((str(tmp_path / "none.safetensors"),), "does not exist"),
            ((str(headless), "--port", "0"), "no classes to rank"),
            ((str(bundle_file), "--cors-origin", "a.org/"), "the CORS origin 'a.org/' is none"),
        ]:
            assert main(["serve", *arguments]) == 2
            told = capsys.readouterr().err
            assert line in told
            assert told.count("\n") == 1

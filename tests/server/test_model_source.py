"""Names of models, their files, and what `resnetkit serve` does when one is replaced."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from shutil import copyfile
from typing import Any

import httpx
import pytest
from test_application import jpeg
from test_model_repository import raised
from test_serve import SERVE, ask, serving

import resnetkit
from resnetkit.cli.main import main
from resnetkit.errors import InputError
from resnetkit.server.model_source import default_name, model_sources, split_name


@pytest.fixture
def files(bundle_file: Path, tmp_path: Path) -> list[Path]:
    """Bundles that always answer cat, dog and owl."""
    bundle = resnetkit.load(bundle_file)
    paths = [tmp_path / name for name in ("first.safetensors", "second.safetensors", "third")]
    for place, path in enumerate(paths):
        raised(bundle, place).save(path)
    return paths


def best(url: str) -> str:
    return ask(url, jpeg(0))["images"][0]["predictions"][0]["label"]


def test_names(bundle_file: Path, tmp_path: Path) -> None:
    found = model_sources({"flowers": "a.safetensors", "flowers@v2": "b.safetensors"})
    assert [(one.name, one.version, one.label) for one in found] == [
        ("flowers", "1", "flowers"),
        ("flowers", "v2", "flowers@v2"),
    ]
    assert [one.name for one in model_sources(["x/a b.onnx", "hf:me/net.a1"])] == ["a-b", "net.a1"]
    assert default_name(resnetkit.load(bundle_file)) == "resnet20"
    for name in ("", "a/b", "a b", "@2", "a@", "a@1@2"):
        with pytest.raises(InputError, match="is not the name of a model"):
            model_sources({name: "a.safetensors"})
    assert split_name("a@2=x/y.onnx") == ("a@2", "x/y.onnx")
    assert split_name("https://h/x?a=b") == (None, "https://h/x?a=b")
    (tmp_path / "lr=1").touch()
    assert split_name(str(tmp_path / "lr=1")) == (None, str(tmp_path / "lr=1"))


def test_a_file_that_is_replaced_while_it_serves(files: list[Path], tmp_path: Path) -> None:
    """Clients ask all the time, and each gets an answer of one model or the other."""
    first, second, third = files
    served = tmp_path / "served.safetensors"
    copyfile(first, served)
    with serving(f"one={served}", f"two={third}", "--engine", "onnxruntime", "--watch", 0.1) as (
        process,
        url,
    ):
        seen, done = list[str](), threading.Event()

        def keep_asking() -> None:
            while not done.is_set():
                seen.append(best(url))

        client = threading.Thread(target=keep_asking)
        client.start()
        try:
            second.rename(served)
            assert process.stdout.readline().startswith("one was replaced (resnet20, sha256 ")
            while "dog" not in seen:
                time.sleep(0.01)
            served.write_bytes(b"no bundle")
            line = process.stdout.readline()
            assert line.startswith("one remains as it was: ")
            assert "served.safetensors" in line
            first.rename(served)
            assert process.stdout.readline().startswith("one was replaced")
            process.send_signal(signal.SIGHUP)
            lines = [process.stdout.readline(), process.stdout.readline()]
            assert [line.split()[:3] for line in lines] == [[n, "was", "replaced"] for n in
                                                            ("one", "two")]  # fmt: skip
        finally:
            done.set()
            client.join(60)
        assert set(seen) == {"cat", "dog"}
        assert best(url) == "cat"
        told = json.load(urllib.request.urlopen(f"{url}/models", timeout=60))
        digests = [resnetkit.load(path).digest for path in (served, third)]
        assert [one["sha256"] for one in told] == digests
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM


def test_a_file_of_options(files: list[Path], tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(
        'host = "127.0.0.1"\nport = 1\nengine = "torch"\ntopk = 2\nroot_path = "/below"\n'
        '[models]\none = "first.safetensors"\n"one@2" = "second.safetensors"\n'
    )
    # A flag is stronger than the file, and paths are relative to it.
    with serving("--config", config, "--topk", 1) as (_, url):
        assert not url.endswith(":1"), "serving gives --port 0"
        told = httpx.get(f"{url}/models").json()
        assert [(one["model"], one["version"]) for one in told] == [("one", "1"), ("one", "2")]
        assert best(url) == "dog"
        answer = httpx.post(f"{url}/predict", content=jpeg(0)).json()
        assert len(answer["images"][0]["predictions"]) == 1
        assert httpx.get(f"{url}/model").json()["engine"]["engine"] == "torch"
        document = httpx.get(f"{url}/openapi.json").json()
        assert document["servers"] == [{"url": "/below"}]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("prot = 1", "unknown key 'prot'; did you mean port?"),
        ("zzz = 1", "unknown key 'zzz'; it must be one of host, port,"),
        ('port = "1"', "port is '1'; it must be a whole number"),
        ("port = true", "port is True; it must be a whole number"),
        ("exact = 1", "exact is 1; it must be true or false"),
        ('engine = "fast"', "engine is 'fast'; it must be one of auto, torch"),
        ('models = "a"', "models is 'a'; it must be a table"),
        ("models = {a = 1}", "it must be a table"),
        ("port = ", "is not TOML"),
        ('topk = 0\n[models]\na = "b"', "--topk is 0; it must be at least 1"),
        ("", "no model is given"),
    ],
)
def test_bad_files_of_options(
    text: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "server.toml"
    config.write_text(text)
    assert main(["serve", "--config", str(config)]) == 2
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1


def test_bad_models(files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    first, second, _ = map(str, files)
    for words, line in [
        ([first, f"other/{Path(first).name}"], "are both first; name them, e.g. first=MODEL"),
        ([f"a={first}", f"a={second}"], "are both a"),
        ([f"a={first}", f"a@1={second}", "--port", "0"], "two models are version 1 of a"),
        ([first, "--watch", "nan"], "--watch is nan"),
        ([first, "--root-path", "x"], "--root-path is x; it must begin with /"),
        (["--config", "none.toml"], "none.toml does not exist; give a TOML file"),
        ([first, "--uds", second], f"cannot listen on {second}: address already in use"),
        ([first, "--uds", "no/where"], "cannot listen on no/where: no such file or directory"),
    ]:
        assert main(["serve", *words, "--engine", "onnxruntime"]) == 2
        told = capsys.readouterr().err
        assert line in told
        assert told.count("\n") == 1
    assert Path(second).is_file()


def test_a_unix_socket(files: list[Path], tmp_path: Path) -> None:
    place = tmp_path / "socket"

    def started() -> subprocess.Popen:
        words = [*SERVE, str(files[0]), "--engine", "onnxruntime", "--uds", str(place)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert (
            process.stdout.readline() == f"unix:{place} serves first (resnet20), onnxruntime fp32\n"
        )
        return process

    def answer() -> Any:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(place))) as client:
            return client.post("http://any/predict?topk=1", content=jpeg(0)).json()

    with started() as process:
        assert answer()["images"][0]["predictions"][0]["label"] == "cat"
        process.kill()
    assert place.exists(), "left by a process that was killed"
    with started() as process:
        assert answer()["model"] == "first"
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert not place.exists()

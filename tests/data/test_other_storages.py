"""Google Cloud Storage and Azure: gs:// against an emulator, and what both say about errors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from object_storage import Faults, faulty, free_port, gcs_serving
from photographs import write_classes
from resnetkit.cli.main import main
from resnetkit.data import storage
from resnetkit.data.datasets.opening import open_dataset
from resnetkit.data.storage_access import StorageError

#: base64 of "a-key-of-the-tests".
KEY = "YS1rZXktb2YtdGhlLXRlc3Rz"
AZURE = (
    "DefaultEndpointsProtocol=http;AccountName=account;"
    f"AccountKey={KEY};BlobEndpoint=http://127.0.0.1:{{port}}/account;"
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with gcs_serving("flowers") as address:
        yield address


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials and settings of this machine."""
    monkeypatch.setattr("resnetkit.data.storage_access._systems", {})
    monkeypatch.setattr("resnetkit.data.storage_access._reached", set())
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / "cache"))
    for name in ("CONNECTION_STRING", "ACCOUNT_NAME", "ACCOUNT_KEY", "SAS_TOKEN", "CLIENT_ID"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)


def refused(address: str, message: str) -> None:
    """Reading, listing and writing end soon, with one line."""
    for call in (
        lambda: storage.read(f"{address}/a", size=1),
        lambda: storage.read(f"{address}/a"),
        lambda: list(storage.files(address)),
        lambda: storage.put(f"{address}/a", b"1"),
    ):
        began = time.monotonic()
        with pytest.raises(StorageError, match=message) as caught:
            call()
        assert time.monotonic() - began < 10
        assert "\n" not in str(caught.value)
        assert KEY not in str(caught.value)


@pytest.mark.slow
def test_google_cloud_storage(
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server)
    data = write_classes(tmp_path / "data", 6)
    packed = "gs://flowers/packed"
    for _ in range(2):
        assert main(["shards", str(data), packed, "--megabytes", "0.05"]) == 0
    assert "of them already existed" in capfd.readouterr().out
    source = open_dataset(packed)
    names = sorted(one.digest() for one in open_dataset(data).examples)
    assert sorted(one.digest() for one in source.examples) == names
    for path in sorted(data.rglob("*.jpg")):
        storage.put(f"gs://flowers/a # b%20ü/{path.name}", path)
    loose = [one.name for one in storage.files("gs://flowers/a # b%20ü")]
    assert loose == sorted({path.name for path in data.rglob("*.jpg")})
    run = str(tmp_path / "run")
    words = "--model resnet20 --size 16 --epochs 1 --batch-size 8 --out".split()
    assert main(["train", packed, *words, run]) == 0
    best = f"{run}/best.safetensors"
    assert main(["evaluate", best, packed, "--split", "all"]) == 0
    for images, count in (
        (packed, 30),
        (f"{packed}/data-000000.tar", source.examples[0].file.size and None),
        (f"{packed}/data-{{000000..000001}}.tar", None),
        (f"{packed}/*.tar", 30),
        ("gs://flowers/a # b%20ü", len(loose)),
        (f"gs://flowers/a # b%20ü/{loose[0]}", 1),
    ):
        capfd.readouterr()
        assert main(["predict", best, images, "--topk", "1", "--format", "jsonl"]) == 0
        out, err = capfd.readouterr()
        assert count in (None, len(out.splitlines()))
        assert images.rpartition("/")[0] in out
        assert len(err.splitlines()) <= 1, "packages log nothing"


@pytest.mark.slow
def test_faults_of_google_cloud_storage(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(range(256)) * 3000
    faults = Faults()
    faults.methods = ("GET", "POST")
    with faulty(server, faults) as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        storage.put("gs://flowers/reached", b"1")
        faults.next_faults = ["503", "reset", "429"]
        storage.put("gs://flowers/some.bin", content)
        faults.next_faults = ["reset", "half", "503", "short", "half"]
        assert storage.read("gs://flowers/some.bin") == content
        assert set(faults.used) == {"503", "reset", "429", "half", "short"}
        for status in ("401", "403"):
            faults.always = status
            refused("gs://flowers", "refuses the credentials")


def test_errors_of_google_cloud_storage(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server)
    refused("gs://no-such-bucket", "there is no such (file, folder or )?bucket")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{free_port()}")
    refused("gs://another", r"cannot be (read|listed|written): Connect call failed")


def test_errors_of_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    refused("abfs://container", "there are no credentials")
    monkeypatch.setattr("resnetkit.data.storage_access._systems", {})
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", AZURE.format(port=free_port()))
    refused("abfs://container", "cannot be (read|listed|written): Cannot connect to host")

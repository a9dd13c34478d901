"""The examples of docs/serve.md that other programs read: they are valid, and fit the server."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from test_application import jpeg
from test_serve import serving

from resnetkit.cli.main import main

PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()


def blocks(kind: str) -> list[str]:
    found = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    return found


def test_the_python_client(
    bundle_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "picture.jpg").write_bytes(jpeg(0))
    monkeypatch.chdir(tmp_path)
    with serving(bundle_file, "--engine", "onnxruntime") as (_, url):
        clients = [block for block in blocks("py") if "http://127.0.0.1:8000" in block]
        assert clients
        for block in clients:
            exec(block.replace("http://127.0.0.1:8000", url), {})
    assert re.fullmatch(r"picture\.jpg: (cat|dog|owl|emu), \d+%\n", capsys.readouterr().out)


def test_kubernetes() -> None:
    """Names, labels and ports fit each other, and there is time for an orderly end."""
    [block] = blocks("yaml")
    deployment, service = yaml.safe_load_all(block)
    assert (deployment["apiVersion"], deployment["kind"]) == ("apps/v1", "Deployment")
    assert (service["apiVersion"], service["kind"]) == ("v1", "Service")
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    [container] = template["spec"]["containers"]
    [port] = container["ports"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["port"] == port["name"]
        assert asked["path"] in ("/health", "/ready")
    volumes = {one["name"] for one in template["spec"]["volumes"]}
    assert {one["name"] for one in container["volumeMounts"]} == volumes
    args = container["args"]
    assert args[args.index("--threads") + 1] == container["resources"]["limits"]["cpu"]
    keys = next(one for one in container["volumeMounts"] if one["name"] == "keys")
    assert args[args.index("--api-key-file") + 1].startswith(keys["mountPath"])
    with pytest.raises(SystemExit) as caught:
        main(["serve", *args, "--help"])
    assert caught.value.code == 0, "its flags exist"
    [command] = (container["lifecycle"]["preStop"]["exec"]["command"],)
    assert template["spec"]["terminationGracePeriodSeconds"] >= int(command[1]) + 30
    dockerfile = (Path(__file__).parents[2] / "Dockerfile").read_text()
    user = template["spec"]["securityContext"]["runAsUser"]
    assert f"USER {user}\n" in dockerfile
    assert f'"--port", "{port["containerPort"]}"' in dockerfile


def test_systemd(tmp_path: Path) -> None:
    [block] = blocks("ini")
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str
    unit.read_string(block)
    assert list(unit) == ["DEFAULT", "Unit", "Service", "Install"]
    command = unit["Service"]["ExecStart"].split()
    assert int(unit["Service"]["TimeoutStopSec"]) > 30
    with pytest.raises(SystemExit) as caught:
        main([*command[1:], "--help"])
    assert caught.value.code == 0, "its flags exist"
    if verify := shutil.which("systemd-analyze"):
        path = tmp_path / "flowers.service"
        path.write_text(block.replace(command[0], shutil.which("true")))
        done = subprocess.run([verify, "verify", path], capture_output=True, text=True, check=False)
        assert "flowers.service" not in done.stderr, done.stderr

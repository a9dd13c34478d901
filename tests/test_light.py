"""What runs without the optional packages, what is said where one is needed, and clean
environments of each extra."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from resnetkit.errors import EXTRAS
from running_statistics import draw_statistics

ROOT = Path(__file__).parents[1]
#: The packages of the extra ``train``.
HEAVY = ("torch", "torchvision", "sklearn", "scipy", "matplotlib", "safetensors")
_HIDDEN = """
import json, sys
hidden, commands = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(hidden))
from resnetkit.cli.main import main
for words in commands:
    print("$", *words, flush=True)
    print("exit code", main(words), flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of torchvision, and pictures in folders of its classes."""
    folder = tmp_path_factory.mktemp("light")
    torch.manual_seed(0)
    module = torchvision.models.resnet18(num_classes=3)
    draw_statistics(module)
    torch.save(module.state_dict(), folder / "net.pth")
    draw = np.random.default_rng(0)
    for label in "012":
        (folder / "pictures" / label).mkdir(parents=True)
        for number in range(22):
            pixels = draw.integers(0, 256, (330, 420, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / label / f"{number}.jpg")
    return folder


def without(hidden: tuple[str, ...], commands: list[str], folder: Path) -> dict[str, str]:
    """The output of each command in one process that cannot import ``hidden``."""
    given = json.dumps([hidden, [command.split() for command in commands]])
    done = subprocess.run(
        [sys.executable, "-c", _HIDDEN, given],
        cwd=folder, env={**os.environ, "RESNETKIT_CACHE": str(folder / "cache")},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    parts = done.stdout.split("$ ")
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts[1:]}


LIGHT = [
    "explain resnet50 --level stage",
    "compare resnet18 resnet34",
    "identify net.pth",
    "convert net.pth net.safetensors",
    "convert net.safetensors timm.safetensors --to timm",
    "predict net.safetensors pictures",
    "evaluate net.safetensors pictures",
    "evaluate net.pth pictures --try stem_pool",
    "export net.safetensors net.onnx --to onnx",
    "export net.safetensors net.xml --to openvino",
    "bench net.safetensors --batch-sizes 1 --rounds 1 --seconds 0.1",
    "shards pictures shards",
    "doctor",
]


@pytest.mark.slow
def test_what_runs_without_torch(folder: Path) -> None:
    found = without(HEAVY, LIGHT, folder)
    assert list(found) == LIGHT
    for command, printed in found.items():
        assert printed.endswith("exit code 0\n"), f"{command}: {printed}"
        assert "Traceback" not in printed
    assert "logits differ by at most 0 (" in found["convert net.pth net.safetensors"]
    report = json.loads((folder / "net.onnx.agreement.json").read_text())["agreement"]
    assert report["engines"]["bundle"]["engine"] == "openvino"
    assert "coloured noise" in report["data"]
    assert report["agreement"] == 1


@pytest.mark.slow
def test_it_is_the_same_with_torch(folder: Path) -> None:
    """Weights that are converted without torch, and what they are measured at."""
    without((), ["convert net.pth with.safetensors"], folder)
    without(HEAVY, ["convert net.pth without.safetensors"], folder)
    measured = []
    for hidden, name in (((), "with"), (HEAVY, "without")):
        command = f"evaluate {name}.safetensors pictures --format json"
        printed = without(hidden, [command], folder)[command]
        measured.append(json.loads(printed[printed.index("{") : printed.rindex("}") + 1]))
    one, two = measured
    assert one["confusion"] == two["confusion"]
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-6)


MISSING = {
    "train pictures": "torch",
    "train digits --find-lr": "torch",
    "evaluate light.safetensors digits": "sklearn",
    "convert net.pth out.pth --to timm": "torch",
    "convert net.pth new.safetensors --num-classes 3": "torch",
    "convert net.pth v.safetensors --verify-with-source": "torch",
    "predict light.safetensors pictures --engine torch": "torch",
    "export light.safetensors net.pt2 --to torch-export": "torch",
    "fetch torchvision:resnet18": "torchvision",
}


def test_one_line_says_what_is_missing(folder: Path) -> None:
    found = without(HEAVY, ["convert net.pth light.safetensors", *MISSING], folder)
    for command, needed in MISSING.items():
        line, code = found[command].splitlines()[-2:]
        assert code == "exit code 2"
        assert line.startswith("resnetkit: ")
        assert line.endswith(
            f"requires {needed}, which is not installed; pip install 'resnetkit[train]'"
        )
    assert not {"out.pth", "new.safetensors", "v.safetensors"} & {p.name for p in folder.iterdir()}


def test_no_engine_is_installed(folder: Path) -> None:
    hidden = (*HEAVY, "openvino", "onnxruntime")
    commands = ["identify net.pth", "convert net.pth none.safetensors", "doctor"]
    found = without(hidden, commands, folder)
    assert found[commands[0]].endswith("exit code 0\n")
    assert "no engine is installed; pip install 'resnetkit[openvino]'" in found[commands[1]]
    assert not (folder / "none.safetensors").exists()
    assert "none: no engine is installed" in found["doctor"]


@pytest.mark.parametrize("name", ["train", "build", "ResNet", "serve"])
def test_python_says_it_too(name: str) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'fastapi', 'uvicorn')))\n"
        f"import resnetkit\ntry:\n    resnetkit.{name}('resnet18')\n"
        "except ValueError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "is not installed; pip install 'resnetkit[" in done.stdout


@pytest.mark.slow
def test_modules_that_other_systems_lack(folder: Path) -> None:
    """Windows has no fcntl and no resource; everything imports, and files are written."""
    code = (
        "import sys, importlib, pkgutil\n"
        "sys.modules.update(dict.fromkeys(('fcntl', 'resource', 'pwd', 'grp')))\n"
        "import resnetkit\n"
        "for found in pkgutil.walk_packages(resnetkit.__path__, 'resnetkit.'):\n"
        "    if not found.name.endswith(('__main__', 'hdf5_subprocess')):\n"
        "        importlib.import_module(found.name)\n"
        "resnetkit.convert('net.pth', 'windows.safetensors')\n"
        "resnetkit.predict_to_file('windows.safetensors', 'pictures', 'found.csv')\n"
        "resnetkit.train('digits', 'resnet20', out='windows', epochs=1, threads=1)\n"
        "print('done')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.endswith("done\n"), done.stderr


def test_the_image_for_serving_is_well_made() -> None:
    """The Dockerfile has no finding of hadolint."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extras", "megabytes", "commands"),
    [
        ("", 150, ["explain resnet50", "identify net.pth", "compare resnet18 resnet34", "doctor"]),
        ("openvino,onnx,serve", 500, LIGHT),
        ("int8,onnx", 1500, ["convert net.pth net.safetensors",
         "export net.safetensors q.xml --to openvino --precision int8 --calibrate pictures "
         "--min-agreement 0"]),
        ("drawing,fast,heic,hub,keras,parquet,remote", 600,
         ["identify net.pth", "doctor", "explain net.pth --out net.png"]),
        ("train", 9000, ["train digits --epochs 1 --out run",
         "predict run/best.safetensors pictures"]),
    ],
    ids=["base", "light", "int8", "small", "train"],
)  # fmt: skip
def test_clean_environments(
    extras: str, megabytes: int, commands: list[str], folder: Path, tmp_path: Path
) -> None:
    """Installed from nothing with one extra, the commands of that extra run."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    what = f"{ROOT}[{extras}]" if extras else str(ROOT)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, what], check=True)
    given = tmp_path / "given"
    shutil.copytree(folder / "pictures", given / "pictures")
    shutil.copy(folder / "net.pth", given)
    for command in commands:
        done = subprocess.run(
            [python.with_name("resnetkit"), *command.split()],
            cwd=given, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stderr}"
    promised = [name for name, extra in EXTRAS.items() if extra in extras.split(",")]
    subprocess.run([python, "-c", f"import {', '.join(['resnetkit', *promised])}"], check=True)
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "pip", "setuptools"],
                   check=True)  # fmt: skip
    files = [path for path in (tmp_path / "venv").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"[{extras}]: {size:.0f} MB")
    assert size < megabytes

"""What `import resnetkit` offers: its signatures, its docstrings, and their examples, run."""

from __future__ import annotations

import contextlib
import doctest
import functools
import hashlib
import http.server
import inspect
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import torchvision

import resnetkit
from resnetkit.data import open_dataset
from resnetkit.training import train

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden" / "api.txt"
NAMES = [name for name in resnetkit.__all__ if not name.startswith("_")]
FUNCTIONS = [name for name in NAMES if inspect.isfunction(getattr(resnetkit, name))]
#: Classes of the caller's: they are not what a function returns.
CLASSES = [
    *("MLflowCallback", "PrometheusCallback", "ResNetClassifier", "TensorBoardCallback"),
    "WandbCallback",
]
#: What the README's table promises.
PROMISED = set(
    "list_models network explain compare build load identify convert verify train resume find_lr "
    "evaluate predict predict_to_file embed export benchmark open_model serve compare_runs fetch "
    "push_to_hub"
    .split()
)  # fmt: skip


def api() -> str:
    """Every public name with its signature, and the public methods of classes with theirs."""
    lines = []
    for name in NAMES:
        thing = getattr(resnetkit, name)
        if inspect.isfunction(thing):
            signature = re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(thing)))
            lines.append(f"{name}{signature}")
            continue
        lines.append(f"class {name}")
        for member, value in sorted(vars(thing).items()):
            if member.startswith("_"):
                continue
            method = getattr(value, "__func__", value)  # of a class method
            signature = inspect.signature(method) if inspect.isfunction(method) else ""
            lines.append(f"    {member}{signature}")
    return "\n".join(lines) + "\n"


def test_the_public_api_is_the_golden_one() -> None:
    """``RESNETKIT_UPDATE_DOCS=1`` writes the file anew; a change belongs in the changelog."""
    if os.environ.get("RESNETKIT_UPDATE_DOCS"):
        GOLDEN.write_text(api())
    assert api() == GOLDEN.read_text()


def test_what_is_promised_is_there() -> None:
    assert set(FUNCTIONS) == {*PROMISED, "catalog"}
    assert {*resnetkit.__all__} <= {*dir(resnetkit)}
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = resnetkit.nothing


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES])
def test_functions_are_typed_and_explained(name: str) -> None:
    function = getattr(resnetkit, name)
    signature = inspect.signature(function if name in FUNCTIONS else function.__init__)
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        assert parameter.annotation is not inspect.Parameter.empty, parameter
    assert ">>> " in inspect.getdoc(function)


@pytest.mark.slow
def test_names_are_found_whatever_was_imported_first() -> None:
    """A function whose package had its name would be hidden by it."""
    program = (
        "import pkgutil, importlib, inspect, sys, resnetkit\n"
        "for found in pkgutil.walk_packages(resnetkit.__path__, 'resnetkit.'):\n"
        "    if found.name.count('.') <= 2 and not found.name.endswith('__main__'):\n"
        "        importlib.import_module(found.name)\n"
        "for name, package in [*sys.modules.items()]:\n"
        "    if name.split('.')[0] == 'resnetkit' and name.count('.') <= 1:\n"
        "        for public in getattr(package, '__all__', ()):\n"
        "            assert not inspect.ismodule(getattr(package, public)), (name, public)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Silent, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model, an image of a seven and a checkpoint of torchvision's."""
    place = tmp_path_factory.mktemp("api")
    train("digits", out=place / "trained", epochs=2, threads=1, size=16)
    shutil.copy(place / "trained" / "best.safetensors", place / "model.safetensors")
    shutil.rmtree(place / "trained")
    seven = next(s for s in open_dataset("digits").parts["test"] if s.label == 7)
    PIL.Image.fromarray(np.asarray(seven.image)).save(place / "seven.png")
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), place / "theirs.pth")
    return place


@pytest.mark.slow
def test_examples(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("RESNETKIT_CACHE", str(folder / "cache"))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_MODE", "offline")
    model = folder / "model.safetensors"
    with served(folder) as url:
        names = {
            "resnetkit": resnetkit,
            "torch": torch,
            "model": "model.safetensors",
            "address": f"{url}/model.safetensors",
            "digest": hashlib.sha256(model.read_bytes()).hexdigest(),
        }
        runner = doctest.DocTestRunner(
            optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False
        )
        # `resume` goes on with the run that `train` has made; `serve` has a test of its own.
        for name in sorted(
            {*FUNCTIONS, *CLASSES} - {"serve"},
            key=lambda n: (n in CLASSES, n in ("resume", "compare_runs"), n),
        ):
            function = getattr(resnetkit, name)
            finder = doctest.DocTestFinder(recurse=False)
            for test in finder.find(function, name, globs=dict(names)):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    failed = runner.run(test).failed
                assert not failed, f"the example of {name}; see above"


def test_the_example_of_serve(folder: Path) -> None:
    """It serves until it is stopped, so it runs in a process of its own."""
    [example] = doctest.DocTestParser().get_examples(inspect.getdoc(resnetkit.serve))
    program = f"import resnetkit\nmodel = 'model.safetensors'\n{example.source}"
    command = [sys.executable, "-u", "-c", program]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert doctest.OutputChecker().check_output(example.want, line, doctest.ELLIPSIS), line
            with urllib.request.urlopen(f"{line.split()[0]}/health", timeout=60) as response:
                assert response.status == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 128 + signal.SIGTERM
        finally:
            process.kill()


def test_docs_import_at_most_a_package() -> None:
    """A reader of the pages needs no module of a package."""
    deep = re.compile(r"^\s*(?:from|import) (resnetkit\.\w+\.[\w.]+)", re.MULTILINE)
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        assert not deep.findall(page.read_text(encoding="utf-8")), page.name

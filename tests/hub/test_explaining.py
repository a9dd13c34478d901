"""explain and compare of files: bundles, runs, checkpoints, graphs, and what was assumed."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import torchvision

import resnetkit
from resnetkit.cli.main import main
from resnetkit.errors import AssumptionWarning, InputError

SMALL = resnetkit.network("resnet20", depths=(1, 1), widths=(8, 16), stem_widths=(8,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One network as a run's bundle and as exported files, and a checkpoint of torchvision's."""
    place = tmp_path_factory.mktemp("explained")
    torch.manual_seed(0)
    bundle = resnetkit.Bundle.from_module(
        resnetkit.build(SMALL).eval(),
        preprocess=resnetkit.Preprocess(size=24),
        classes=tuple("0123456789"),
    )
    (place / "run").mkdir()
    bundle.save(place / "run" / "best.safetensors")
    bundle.save(place / "run" / "last.safetensors")
    for target in ("net.onnx", "net.xml", "net.pt2"):
        kind = {"onnx": "onnx", "xml": "openvino", "pt2": "torch-export"}[target[4:]]
        resnetkit.export(place / "run" / "best.safetensors", place / target, to=kind)
    theirs = torchvision.models.resnet18(num_classes=7).eval()
    torch.save(theirs.state_dict(), place / "theirs.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's first exporter is deprecated, and widely used
        torch.onnx.export(
            theirs, (torch.zeros(1, 3, 224, 224),), place / "theirs.onnx", dynamo=False
        )
    return place


@pytest.mark.parametrize("name", ["run", "run/best.safetensors", "net.onnx", "net.xml", "net.pt2"])
def test_a_file_of_ours_is_explained_at_its_own_size(folder: Path, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such a file leaves nothing open
        explanation = resnetkit.explain(folder / name)
    assert explanation.network.options == SMALL.options
    assert explanation.input == (3, 24, 24)
    assert resnetkit.explain(str(folder / name), 32, num_classes=3).output == (3,)


@pytest.mark.parametrize("name", ["theirs.pth", "theirs.onnx"])
def test_a_foreign_file_says_what_was_assumed(folder: Path, name: str) -> None:
    with pytest.warns(AssumptionWarning, match=rf"{name}: assumed as .*preprocess IMAGENET1K_V1"):
        explanation = resnetkit.explain(folder / name)
    assert explanation.input == (3, 224, 224)
    assert explanation.network.options.depths == (2, 2, 2, 2)
    assert explanation.output == (7,)


def test_options_resolve_what_a_file_leaves_open(folder: Path) -> None:
    with pytest.warns(AssumptionWarning) as caught:
        explanation = resnetkit.explain(folder / "theirs.pth", norm_epsilon=1e-3, num_classes=2)
    assert "norm_epsilon" not in str(caught[0].message)
    assert explanation.network.options.norm_epsilon == 1e-3
    assert explanation.output == (2,)


def test_compare_says_identical_or_what_differs(folder: Path) -> None:
    bundle = resnetkit.load(folder / "run" / "best.safetensors")
    same = resnetkit.compare(SMALL, folder / "run")
    assert same.identical
    assert same.first.input == (3, 24, 24), "at the file's size"
    assert same.verdict == "identical: no option and none of the 21 layers differs"
    assert same.names[1] == f"{folder / 'run'} (resnet20)"
    assert resnetkit.compare(bundle, folder / "net.onnx").identical
    other = resnetkit.compare(SMALL.override(num_classes=9), folder / "run")
    assert not other.identical
    assert other.verdict == "1 of 21 layers differ"
    assert other.options == {"num_classes": (9, 10)}


def test_objects_are_explained(folder: Path) -> None:
    bundle = resnetkit.load(folder / "run" / "best.safetensors")
    assert resnetkit.explain(bundle).input == (3, 24, 24)
    assert resnetkit.explain(resnetkit.build(SMALL), (20, 28)).input == (3, 20, 28)


def test_group_norms_need_to_be_told(tmp_path: Path) -> None:
    module = resnetkit.build(SMALL.override(norm="group", norm_groups=4))
    torch.save(module.state_dict(), tmp_path / "net.pth")
    with pytest.raises(InputError, match="If these are group norms, give norm='group'"):
        resnetkit.explain(tmp_path / "net.pth")
    given = resnetkit.explain(tmp_path / "net.pth", norm="group", norm_groups=4)
    assert given.network.options.norm == "group"


def test_a_source_is_downloaded(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path))

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = partial(Silent, directory=str(folder / "run"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/best.safetensors"
        assert resnetkit.explain(url).input == (3, 24, 24)
        server.shutdown()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("lost.pth", "lost.pth does not exist and is no network's name"),
        ("lost/run", "lost/run does not exist"),
        ("resnet5O", "did you mean resnet"),
        ("empty", "weight file"),
        ("text.pth", "not a known weight file"),
    ],
)
def test_what_is_no_network_is_one_line(
    given: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pth").write_text("words, words, words")
    with pytest.raises(InputError, match=reason):
        resnetkit.explain(given)
    with pytest.raises(InputError, match=reason):
        resnetkit.compare("resnet18", given)


def test_a_name_precedes_a_file(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet20").symlink_to(folder / "run")
    assert resnetkit.explain("resnet20").input == (3, 32, 32)
    assert resnetkit.explain("./resnet20").input == (3, 24, 24)


def test_the_commands_say_on_stderr_what_was_assumed(folder: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(folder)
    assert main(["explain", "theirs.pth", "--level", "stage"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("resnet18 with num_classes 7 at 3x224x224")
    assert printed.err.startswith("resnetkit: theirs.pth: assumed as torchvision documents: ")
    assert main(["compare", "theirs.pth", "theirs.pth"]) == 0
    printed = capsys.readouterr()
    assert "theirs.pth (resnet18)" in printed.out
    assert "\nidentical: no option and none of the 69 layers differs\n" in printed.out
    assert printed.err.count("assumed as") == 2


def test_a_file_is_explained_without_torch(folder: Path) -> None:
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'openvino', 'onnxruntime')))\n"
        "from resnetkit.cli.main import main\n"
        "for name in ('run', 'theirs.pth', 'net.onnx'): assert main(['explain', name]) == 0"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

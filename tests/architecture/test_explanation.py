"""Tables: rows add up to totals, printed columns to printed totals, and the golden page."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

import resnetkit
from resnetkit.architecture import registry, text
from resnetkit.architecture.comparison import Comparison
from resnetkit.architecture.network import Network
from resnetkit.architecture.table_rows import LEVELS
from resnetkit.errors import InputError

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = ("resnet18", "resnet50_deep", "seresnext26t_32x4d", "resnet20", "resnet50_notes")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", registry.names())
def test_every_level_adds_up_to_the_totals(name: str, level: str) -> None:
    explanation = resnetkit.explain(name)
    rows, totals = explanation.rows(level), explanation.totals
    for column in ("parameters", "buffers", "macs", "activations"):
        assert sum(getattr(row, column) for row in rows) == getattr(totals, column)
    assert rows[-1].output == explanation.output


@pytest.mark.parametrize("level", LEVELS[1:])
@pytest.mark.parametrize("name", NAMES)
def test_printed_columns_add_up_to_the_printed_total(name: str, level: str) -> None:
    page = text.table(resnetkit.explain(name), level).splitlines()
    rules = [i for i, line in enumerate(page) if line.startswith("-----")]
    heads, body, total = page[rules[0] - 1], page[rules[0] + 1 : rules[1]], page[rules[1] + 1]
    for column in ("parameters", "MACs"):
        end = heads.index(column) + len(column)
        start = max(heads.rfind("  ", 0, heads.index(column)) - 12, 0)
        numbers = [int(line[start:end].split()[-1].replace(",", "")) for line in body]
        assert sum(numbers) == int(total[start:end].split()[-1].replace(",", ""))
    assert len({len(line) for line in page[rules[0] : rules[1] + 1 : rules[1] - rules[0]]}) == 1


@pytest.mark.parametrize(
    ("file", "arguments"),
    [
        ("resnet50_deep_473_block.txt", ("resnet50_deep", 473)),
        ("resnet50_notes_473_block.txt", ("resnet50_notes", 473)),
        ("resnet18_224_block.txt", ("resnet18", 224)),
    ],
)
def test_golden_table(file: str, arguments: tuple) -> None:
    """After a wanted change: write str(explanation) to the file and read the difference."""
    assert str(resnetkit.explain(*arguments)) + "\n" == (GOLDEN / file).read_text()


@pytest.mark.parametrize("name", NAMES)
def test_json_holds_what_the_issue_asks(name: str) -> None:
    explanation = resnetkit.explain(name)
    page = json.loads(explanation.to_json())
    totals = explanation.totals
    assert page["name"] == name
    assert (page["parameters"], page["macs"]) == (totals.parameters, totals.macs)
    assert page["layers"] == explanation.network.layer_count
    layers = []
    for stage in [*page["stages"], page["head"]]:
        inside = stage.get("layers") or [la for b in stage["blocks"] for la in b["layers"]]
        for number in ("parameters", "macs"):
            assert sum(layer[number] for layer in inside) == stage[number]
        assert stage["output"] == inside[-1]["output"]
        layers += inside
    assert [stage["name"] for stage in page["stages"]] == [
        stage.name for stage in explanation.network.stages
    ]
    assert "layers" in page["stages"][0]
    assert "blocks" in page["stages"][1]
    wanted = "path kind input output parameters macs receptive_field stride formula".split()
    for layer, step in zip(layers, explanation.walk.steps, strict=True):
        assert set(wanted) <= set(layer)
        assert layer["path"] == step.path
    assert (
        Network.from_dict(
            {
                "name": page["name"],
                "about": page["about"],
                "source": page["source"],
                "input_size": page["input"][-1],
                "options": page["options"],
            }
        )
        == explanation.network
    )


def test_json_of_the_notes_network_at_473() -> None:
    page = json.loads(resnetkit.explain("resnet50_deep", 473).to_json())
    assert page["input"] == [3, 473, 473]
    assert page["layers"] == {"paper": 50, "notes": 50}
    assert page["stages"][0]["output"] == [128, 119, 119]
    assert page["stages"][0]["layers"][0]["formula"] == "floor((473 + 2*1 - 3) / 2) + 1 = 237"
    assert page["output"] == [2048, 9, 9]
    assert "the head cannot process 2048x9x9" in page["head"]["problem"]
    fc = page["head"]["layers"][-1]
    assert (fc["path"], fc["output"], fc["parameters"], fc["macs"]) == ("fc", None, 2_049_000, 0)


def test_head_that_cannot_take_the_features_is_said_where_it_happens() -> None:
    page = str(resnetkit.explain("resnet50_deep", 473))
    assert "the head cannot process 2048x9x9: at fc" in page
    assert "2048x15x15" in page
    small = resnetkit.explain("resnet50_deep", 160)
    assert "at avgpool, the average pool 7x7, stride 1 covers 7 pixels" in small.problem
    assert small.output == (2048, 5, 5)
    assert small.totals.parameters == resnetkit.explain("resnet50_deep").totals.parameters


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (
            "resnet50_notes",
            (3, 2, 2),
            "too small for resnet50_notes: at conv2, .*the output is empty",
        ),
        ("resnet50_caffe", (3, 1, 1), "at maxpool"),
        ("resnet50", (1, 224, 224), "has 1 channels and resnet50 requires 3"),
        ("resnet50", (3, 0, 224), "it must be .channels, height, width"),
        ("resnet50", (3, 224), "it must be .channels, height, width"),
    ],
)
def test_impossible_inputs(name: str, shape: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resnetkit.explain(name, shape)


def test_formulas_of_a_rectangle_name_both_sides() -> None:
    row = resnetkit.explain("resnet50", (3, 200, 301)).rows("layer")[0]
    assert row.formula == (
        "height floor((200 + 2*3 - 7) / 2) + 1 = 100; width floor((301 + 2*3 - 7) / 2) + 1 = 151"
    )
    assert row.parameters_formula == "64*3*7*7 = 9,408"
    assert row.macs_formula == "64*100*151 * 3*7*7 = 142,060,800"


@pytest.mark.parametrize(
    "name", ["resnext50_32x4d", "resnet50_keras", "seresnet50", "resnetblur50", "ecaresnet26t"]
)
def test_formulas_compute_what_they_say(name: str) -> None:
    for row in resnetkit.explain(name).rows("layer"):
        for formula, number in (
            (row.parameters_formula, row.parameters),
            (row.macs_formula, row.macs),
        ):
            if not formula:
                assert number == 0
                continue
            left, right = formula.split(" = ")
            assert int(right.replace(",", "")) == number
            assert eval(left.replace("/", "//")) == number


def test_csv_and_markdown_hold_the_rows() -> None:
    explanation = resnetkit.explain("resnet18")
    page = list(csv.DictReader(io.StringIO(text.comma_separated(explanation, "layer", True))))
    assert [row["path"] for row in page] == [step.path for step in explanation.walk.steps]
    assert sum(int(row["macs"]) for row in page) == explanation.totals.macs
    lines = text.markdown(explanation, "block").splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert len(table) == len(explanation.rows("block")) + 3


def test_tree_draws_the_hierarchy() -> None:
    explanation = resnetkit.explain("resnet18")
    lines = [line for _, line in text.tree_lines(explanation, "layer")]
    assert lines[0].startswith("resnet18 ")
    assert lines[1].startswith("├─ stage0 ")
    assert lines[2].startswith("│  ├─ conv1 ")
    assert any(line.startswith("│  │  ├─ conv1 ") for line in lines)
    assert any(line.startswith("└─ head ") for line in lines)
    assert lines[-1].startswith("   └─ fc ")
    assert len([line for _, line in text.tree_lines(explanation, "stage")]) == 7


def test_title_tells_changed_options() -> None:
    title = resnetkit.explain("resnet50", output_stride=8, num_classes=10).title
    assert title == "resnet50 with output_stride 8, num_classes 10"
    assert resnetkit.explain("resnet50").title == "resnet50"


def test_unknown_level() -> None:
    with pytest.raises(InputError, match="network, stage, block, layer"):
        resnetkit.explain("resnet18").rows("blocks")


def test_comparison_names_what_differs_and_nothing_else() -> None:
    first, second = resnetkit.explain("resnet50"), resnetkit.explain("resnet50_v1")
    comparison = Comparison(first, second)
    assert comparison.options == {"stride_on": ("3x3", "1x1")}
    assert comparison.numbers["macs"] == (4_089_184_256, 3_857_973_248)
    assert comparison.numbers["receptive_field"] == (427, 483)
    strided = [d.path for d in comparison.layers if "conv" in d.path]
    assert strided == [f"layer{n}.0.conv{c}" for n in (2, 3, 4) for c in (1, 2)]
    assert Comparison(first, resnetkit.explain("resnet50")).layers == ()
    deeper = Comparison(resnetkit.explain("resnet18"), resnetkit.explain("resnet34"))
    assert any(d.first is None for d in deeper.layers)
    assert all(d.second is not None for d in deeper.layers)
    assert json.dumps(deeper.to_dict())
    # Epsilon changes no shape and no number, and is a difference all the same.
    keras = Comparison(second, resnetkit.explain("resnet50_v1", norm_epsilon=1e-3))
    assert len(keras.layers) == 53

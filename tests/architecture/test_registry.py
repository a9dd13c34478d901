"""The catalogue: who is in it, that it says what it is, and that descriptions travel as JSON."""

from __future__ import annotations

import json
import re

import pytest

import resnetkit
from resnetkit.architecture import registry
from resnetkit.architecture.layer import Add, Linear
from resnetkit.architecture.network import Network
from resnetkit.architecture.shape_inference import walk
from resnetkit.errors import InputError

WANTED = """
    resnet18 resnet34 resnet50 resnet101 resnet152 resnet50_v1 resnet101_v1 resnet152_v1
    resnet18d resnet34d resnet26d resnet50d resnet101d resnet152d resnet200d resnet26
    resnet200 resnet50c resnet101c resnet152c resnet50s resnet101s resnet152s resnet10t
    resnet14t resnet26t resnet50t wide_resnet50_2 wide_resnet101_2 resnext50_32x4d
    resnext50d_32x4d resnext101_32x4d resnext101_32x8d resnext101_32x16d resnext101_32x32d
    resnext101_64x4d seresnet18 seresnet34 seresnet50 seresnet101 seresnet152 seresnet50t
    seresnet152d seresnet200d seresnet269d seresnext50_32x4d seresnext101_32x4d
    seresnext26d_32x4d seresnext26t_32x4d seresnext101_32x8d seresnext101_64x4d
    seresnext101d_32x8d resnet20 resnet32 resnet44 resnet56 resnet110 resnet50_keras
    resnet50_deep resnet101_deep resnet152_deep resnet50_notes resnet50_gn ecaresnet26t
    ecaresnet50d ecaresnet50d_pruned ecaresnet50t ecaresnet101d ecaresnet101d_pruned ecaresnet200d
    ecaresnet269d ecaresnetlight ecaresnext26t_32x4d ecaresnext50t_32x4d resnetaa34d resnetaa50
    resnetaa50d resnetaa101d resnetblur18 resnetblur50 resnetblur50d resnetblur101d resnetrs50
    resnetrs101 resnetrs152 resnetrs200 resnetrs270 resnetrs350 resnetrs420 senet154 seresnetaa50d
    seresnextaa101d_32x8d seresnextaa201d_32x8d test_resnet
""".split()
#: Layers of networks whose names do not tell them, or tell them otherwise.
LAYERS = {
    "ecaresnetlight": 50,
    "test_resnet": 11,
    "senet154": 152,
    "seresnextaa201d_32x8d": 203,
    "resnetrs270": 272,
    "resnetrs350": 350,
    "resnetrs420": 419,
}


def side(step) -> int:
    return step.output[-1]


def test_everybody_is_there() -> None:
    assert set(WANTED) <= set(registry.names())
    assert len(registry.names()) == 97


@pytest.mark.parametrize("entry", registry.catalog(), ids=lambda e: e.name)
def test_entry(entry: registry.Entry) -> None:
    described = entry.network()
    for line in (entry.about, entry.source):
        assert line
        assert "\n" not in line
    assert Network.from_json(described.to_json()) == described
    again = Network.from_dict(json.loads(json.dumps(described.to_dict())))
    assert again == described
    assert (again.stages, again.head, again.about) == (
        described.stages,
        described.head,
        described.about,
    )
    assert hash(again) == hash(described)
    depth = LAYERS.get(entry.name) or int(re.search(r"\d+", entry.name)[0])
    counts = described.layer_count
    has_fc = any(isinstance(layer, Linear) for layer in described.head)
    assert counts["paper"] == depth - (not has_fc)
    if described.options.stem_pool != "none":
        assert counts["notes"] == depth
    paths = [located.path for located in described.layers()]
    assert len(paths) == len(set(paths))


def test_entries_differ() -> None:
    descriptions = [entry.network().options for entry in registry.catalog()]
    twins = {}
    for entry, options in zip(registry.catalog(), descriptions, strict=True):
        twins.setdefault(options, []).append(entry.name)
    assert [names for names in twins.values() if len(names) > 1] == []


def test_published_code_of_the_notes_at_473() -> None:
    steps = {s.path: s for s in walk(registry.network("resnet50_deep"), (3, 473, 473)).steps}
    drawn = ["conv1", "conv2", "conv3", "maxpool", "layer1.2.add", "layer2.3.add", "layer3.5.add"]
    drawn += ["layer4.2.add", "avgpool"]
    assert [side(steps[p]) for p in drawn] == [237, 237, 237, 119, 119, 60, 30, 15, 9]
    assert steps["layer4.2.add"].output == (2048, 15, 15)
    assert steps["fc"].output is None


def test_published_code_of_the_notes_at_224() -> None:
    walked = walk(registry.network("resnet50_deep"), (3, 224, 224))
    assert {s.path: s.output for s in walked.steps}["avgpool"] == (2048, 1, 1)
    assert walked.problem is None
    assert walked.output == (1000,)


def test_the_notes_own_arithmetic() -> None:
    walked = walk(registry.network("resnet50_notes"), (3, 473, 473))
    steps = {s.path: s for s in walked.steps}
    assert [side(steps[p]) for p in ("conv1", "conv2", "conv3", "maxpool")] == [236, 234, 232, 117]
    ends = {}
    for step in walked.steps:
        if isinstance(step.layer, Add):
            ends[step.located.stage] = step.output
    assert list(ends.values()) == [
        (256, 117, 117),
        (512, 59, 59),
        (1024, 30, 30),
        (2048, 16, 16),
    ]
    assert walked.output == (2048, 10, 10)


def test_resnet18_and_50_end_as_the_notes_say() -> None:
    for name, channels in (("resnet18", 512), ("resnet50", 2048)):
        steps = {s.path: s for s in walk(registry.network(name), (3, 224, 224)).steps}
        assert steps["avgpool"].output == (channels, 1, 1)
        assert steps["fc"].output == (1000,)


def test_layer_counts_of_the_notes() -> None:
    assert registry.network("resnet50_deep").layer_sums() == (1, 1, [9, 12, 18, 9])
    assert registry.network("resnet50").layer_count == {"paper": 50, "notes": 50}


@pytest.mark.parametrize(
    ("name", "nearest"), [("resnet5O", "resnet50"), ("ResNet-50", "resnet50"), ("seresnext", "se")]
)
def test_unknown_name_suggests(name: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"unknown network .*did you mean .*{nearest}"):
        resnetkit.network(name)


def test_override_resets_what_follows_from_the_stem() -> None:
    changed = resnetkit.network("resnet50_deep", stem="3x3").options
    assert (changed.stem_widths, changed.stem_pool, changed.output_stride) == ((64,), "none", 8)
    kept = resnetkit.network("resnet50_deep", stem="7x7", stem_widths=(48,)).options
    assert (kept.stem_widths, kept.stem_padding) == ((48,), 3)
    described = resnetkit.network("resnet50")
    assert resnetkit.network(described) is described
    assert resnetkit.network(described, num_classes=7).options.num_classes == 7


def test_description_refuses_what_it_does_not_know() -> None:
    document = resnetkit.network("resnet50").to_dict()
    with pytest.raises(InputError, match="a network must have the fields"):
        Network.from_dict({**document, "weights": 1})
    with pytest.raises(InputError, match="'depth' is not a network option"):
        Network.from_dict({**document, "options": {"depth": 3}})
    with pytest.raises(InputError, match="input_size"):
        Network.from_dict({**document, "input_size": "big"})

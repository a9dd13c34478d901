"""Maps of folders to classes: ImageNet's 1,000 as three frameworks name them, and bad ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
from torchvision.models._meta import _IMAGENET_CATEGORIES

from resnetkit.data.datasets.class_map import mapped
from resnetkit.data.datasets.dataset import Dataset, Sample
from resnetkit.data.datasets.subset import matched
from resnetkit.errors import InputError

INFO = Path(timm.__file__).parent / "data" / "_info"
WNIDS = (INFO / "imagenet_synsets.txt").read_text().split()
LEMMAS = dict(
    line.split("\t") for line in (INFO / "imagenet_synset_to_lemma.txt").read_text().splitlines()
)
WORDS = [LEMMAS[wnid] for wnid in WNIDS]


def numbered(names: list[str]) -> list[str]:
    """Names that stand twice with their number, as a fetched bundle has them."""
    return [f"{n} ({i})" if names.count(n) > 1 else n for i, n in enumerate(names)]


@pytest.fixture(scope="module")
def synsets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ImageNet's own list of 1,000 lines, which has two cranes and two maillots."""
    path = tmp_path_factory.mktemp("maps") / "LOC_synset_mapping.txt"
    lines = (f"{wnid} {words}\n" for wnid, words in zip(WNIDS, WORDS, strict=True))
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize(
    "classes", [list(_IMAGENET_CATEGORIES), numbered(WORDS)], ids=["torchvision", "transformers"]
)
def test_imagenet(classes: list[str], synsets: Path) -> None:
    assert mapped(synsets, WNIDS, classes) == {wnid: n for n, wnid in enumerate(WNIDS)}
    some = ["n03126707", "n02012849", "n01440764"]
    assert mapped(synsets, some, classes) == {"n03126707": 517, "n02012849": 134, "n01440764": 0}


def test_keras_list_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "imagenet_class_index.json"
    names = [words.split(",")[0].replace(" ", "_") for words in WORDS]
    path.write_text(
        json.dumps({str(n): pair for n, pair in enumerate(zip(WNIDS, names, strict=True))})
    )
    found = mapped(path, ["n02012849", "n03126707"], list(_IMAGENET_CATEGORIES))
    assert found == {"n02012849": 134, "n03126707": 517}


def test_position_counts_only_where_names_confirm_it(tmp_path: Path) -> None:
    path = tmp_path / "map.txt"
    path.write_text("x1 dog\nx2 crane\nx3 crane\n")
    assert mapped(path, ["x2"], ["dog", "crane bird", "crane"]) == {"x2": 2}, "one name says where"
    path.write_text("x1 dog\nx2 cat\nx3 crane\nx4 crane\nx5 owl\n")
    classes = ["dog", "cat", "crane bird", "crane", "owl"]
    assert mapped(path, ["x3", "x4"], classes) == {"x3": 2, "x4": 3}
    with pytest.raises(InputError, match="both x3 and x4"):
        mapped(path, ["x3", "x4"], ["cat", "dog", "crane bird", "crane", "owl"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.txt", "a one\nb two, second\n\n"),
        ("m.tsv", "folder\tclass\na\tone\nb\ttwo, second\n"),
        ("m.csv", 'a,one\nb,"two, second"\n'),
        ("m.json", '{"a": "one", "b": "two, second"}'),
        ("m.json", '{"a": 2, "b": 0}'),
    ],
)
def test_kinds_of_files(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert mapped(tmp_path / name, ["b", "a"], ("two", "three", "one")) == {"a": 2, "b": 0}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.txt", "a one\n", "does not map b"),
        ("m.txt", "a one\nb two\na three\n", "maps a twice"),
        ("m.txt", "a one\nb one\n", "maps both a and b to 'one'"),
        ("m.txt", "a one\nb four\n", "to 'four', which the bundle does not know; it knows two"),
        ("m.txt", "a\n", "line 1, has no class"),
        ("m.txt", "", "is empty"),
        ("m.csv", "a,one,x\n", "line 1, has 3 columns"),
        ("m.csv", 'a,"one\n', "cannot be parsed"),
        ("m.json", "[1]", "not a JSON object"),
        ("m.json", "{", "not valid JSON"),
        ("m.json", '{"a": 0, "b": 3}', "class index 3"),
        ("m.json", '{"a": "one", "a": "two", "b": "two"}', "maps a twice"),
        ("m.json", '{"a": null}', "the name or the index"),
        ("m.json", "[" * 10_000, "not valid JSON"),
        ("m.txt", "a \udcff\n", "not UTF-8 text"),
    ],
)
def test_bad_files_are_one_line(name: str, text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message) as caught:
        mapped(path, ["a", "b"], ("two", "three", "one"))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        mapped(tmp_path, ["a"], ("one",))


def test_labels_become_numbers_of_the_map() -> None:
    examples = tuple(Sample(name=str(n), label=n, image=b"") for n in (0, 1))
    source = Dataset(name="data", classes=("a", "b"), flat=examples, parts={})
    numbers = {"a": 7, "b": 3}
    assert [e.label for e in matched(source, examples, ("x",) * 9, numbers)] == [7, 3]

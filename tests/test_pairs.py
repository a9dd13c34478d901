"""From one dialect to another and back, through files: every ordered pair, bit for bit.

Two things do not come back, because there is a framework between that has no place for them:
counters of batches, which come back as 0; and where norms are folded into scale and bias (caffe2),
the norms, which come back folded. What is folded already comes back bit for bit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import resnetkit
from resnetkit.architecture.options import option_names
from resnetkit.architecture.parameters import places
from resnetkit.bundle.bundle import Bundle
from resnetkit.checkpoints.dialects import WRITTEN
from resnetkit.checkpoints.recognition import dialect
from resnetkit.errors import InputError
from resnetkit.formats.opening import open_container
from resnetkit.hub.conversion import BUNDLE, convert
from resnetkit.hub.weights import load

SMALL = {"depths": (2, 1, 1), "widths": (8, 8, 16), "num_classes": 7}
DEEP = {**SMALL, "stem": "deep", "stem_widths": (64, 64, 128)}
KERAS = {"stride_on": "1x1", "conv_bias": True, "norm_epsilon": 1.001e-5, "norm_momentum": 0.01}
#: One of these is held by both of two dialects, if any network is.
NETWORKS = (
    ("resnet50", SMALL),
    ("resnet50", DEEP),
    ("resnet50", {**DEEP, "num_classes": None}),
    ("resnet50", {**SMALL, **KERAS}),
)
NAMES = (*(one.name for one in WRITTEN), BUNDLE)
Arrays = dict[str, np.ndarray]


def bundle_of(name: str, options: dict) -> Bundle:
    torch.manual_seed(1)
    module = resnetkit.build(name, **options)
    for key, value in module.named_buffers():
        if key.endswith("running_mean"):
            value.uniform_(-0.1, 0.1)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        else:
            value.fill_(17)
    return Bundle.from_module(module, preprocess=resnetkit.Preprocess(size=32))


def cannot(name: str, bundle: Bundle) -> str | None:
    return None if name == BUNDLE else dialect(name).cannot(bundle.network.options)


def ending(name: str) -> str:
    return ".safetensors" if name == BUNDLE else dialect(name).endings[0]


def lacks_counters(name: str) -> bool:
    return name != BUNDLE and "num_batches_tracked" in dialect(name).absent


def folds(name: str) -> bool:
    return name != BUNDLE and dialect(name).folds


def written(bundle: Bundle, name: str, folder: Path) -> tuple[Arrays, Bundle]:
    """A file's arrays, and what is read from it with the facts that it cannot tell."""
    path = folder / f"net{ending(name)}"
    convert(bundle, path, to=name)
    container = open_container(path)
    arrays = {key: container.read(key) for key in container.arrays}
    if name == BUNDLE:
        return arrays, load(path)
    options = bundle.network.options
    facts = {o: getattr(options, o) for o in option_names() if o != "num_classes"}
    return arrays, load(path, preprocess=bundle.preprocess, **facts)


def differing(one: Arrays, other: Arrays) -> set[str]:
    """The arrays that are not the same bytes; both files have the same names, types and shapes."""
    assert set(one) == set(other)
    for name, array in one.items():
        assert (array.dtype, array.shape) == (other[name].dtype, other[name].shape), name
    return {name for name, array in one.items() if array.tobytes() != other[name].tobytes()}


def is_norms(name: str, bundle: Bundle, one: str) -> bool:
    """Whether a file's tensor is one of a norm."""
    norms = {path for path, place in places(bundle.network).items() if place.kind == "norm"}
    names = {key: key for key in bundle.arrays}
    if one != BUNDLE:
        names = dialect(one).names(bundle.network)
    theirs = {theirs for key, theirs in names.items() if key.rpartition(".")[0] in norms}
    return name in theirs


def check_pair(one: str, other: str, folder: Path) -> None:
    bundles = [bundle_of(*network) for network in NETWORKS]
    both = [b for b in bundles if cannot(one, b) is None and cannot(other, b) is None]
    if not both:
        check_refusal(one, other, bundles, folder)
        return
    first, start = written(both[0], one, folder)
    _, there = written(start, other, folder)
    again, back = written(there, one, folder)
    lost = differing(first, again)
    if folds(other) and not folds(one):
        assert lost == {name for name in first if is_norms(name, start, one)}
        once_more, _ = written(written(back, other, folder)[1], one, folder)
        assert differing(again, once_more) == set()
        return
    counters = {name for name in first if name.endswith("num_batches_tracked")}
    assert lost == (counters if lacks_counters(other) else set())
    assert all(again[name] == 0 for name in lost)


def check_refusal(one: str, other: str, bundles: list[Bundle], folder: Path) -> None:
    """No network of these is in both; what the first holds is refused by the second, in a line."""
    held = [bundle for bundle in bundles if cannot(one, bundle) is None]
    assert held, one
    target = folder / f"refused{ending(other)}"
    for bundle in held:
        _, start = written(bundle, one, folder)
        with pytest.raises(
            InputError, match=f"{other} does not support .*: .* is .*, and"
        ) as caught:
            convert(start, target, to=other)
        assert "\n" not in str(caught.value)
        assert not target.exists()


#: Of the sweep below: plain, without counters, folded, backbones, layouts turned, and refusals.
SOME = (
    ("torchvision", "transformers"),
    ("pytorchcv", "detectron2"),
    ("torchvision", "caffe2"),
    ("caffe2", "mmpretrain"),
    ("semseg-pspnet", "bundle"),
    ("resnetkit", "keras-weights"),
    ("timm", "keras"),
    ("semseg", "torchvision"),
)


@pytest.mark.parametrize(("one", "other"), SOME)
def test_there_and_back_through_files(one: str, other: str, tmp_path: Path) -> None:
    check_pair(one, other, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("one", NAMES)
def test_every_pair_there_and_back(one: str, tmp_path: Path) -> None:
    for other in NAMES:
        if other != one:
            check_pair(one, other, tmp_path)


def test_most_pairs_share_a_network() -> None:
    """The sweep is not a sweep of refusals."""
    bundles = [bundle_of(*network) for network in NETWORKS]
    shared = sum(
        one != other and any(cannot(one, b) is None and cannot(other, b) is None for b in bundles)
        for one in NAMES
        for other in NAMES
    )
    assert shared > len(NAMES) * (len(NAMES) - 1) // 3

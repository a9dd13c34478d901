"""Every engine answers as the torch module does, for every network that can be described."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import PIL.Image
import pytest
import torch
from torch import nn

import resnetkit
from resnetkit.architecture.network import Network
from resnetkit.data.decoding.tensors import normalise
from resnetkit.errors import InputError
from resnetkit.inference.engines import openvino, selection
from resnetkit.inference.engines.conv_bn_fusion import folded
from resnetkit.inference.engines.engine import EngineName, Pixels
from resnetkit.inference.engines.onnx_export import onnx_model
from resnetkit.inference.engines.selection import open_engine

NAMES = [entry.name for entry in resnetkit.catalog()]
ENGINES: tuple[EngineName, ...] = ("torch", "openvino", "onnxruntime")
#: Largest difference to the module, relative to the largest answer: float32, added up otherwise.
NEAR = 2e-5


def small(network: Network) -> Network:
    """The same kinds of layers, with two blocks a stage and few channels."""
    options = network.options
    most = 2 if options.groups <= 32 else 1
    depths = tuple(min(most, depth) for depth in options.depths)
    changes: dict[str, object] = {"depths": depths}
    if options.conv_widths is not None:
        return network  # pruned: every width is its own
    if options.norm == "group":
        changes["norm_groups"] = 4
    if options.num_classes is not None:
        changes["num_classes"] = 7
    base = 16 if options.groups == 1 else 32 * max(1, options.groups // 32)
    widths = tuple(base << number for number in range(len(depths)))
    return network.override(**changes, widths=widths)


def bundle_of(network: Network, size: int, **facts: object) -> resnetkit.Bundle:
    """A bundle whose norms have statistics that matter."""
    torch.manual_seed(0)
    module = resnetkit.build(network)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
    grey = network.options.in_chans == 1
    usual = {"channels": "L", "mean": (0.4,), "std": (0.3,)} if grey else {}
    return resnetkit.Bundle.from_module(
        module, preprocess=resnetkit.Preprocess(size=size, **{**usual, **facts})
    )


def pixels_for(bundle: resnetkit.Bundle, count: int = 2) -> Pixels:
    size, channels = bundle.preprocess.size, bundle.preprocess.channel_count
    draw = np.random.default_rng(0)
    return draw.integers(0, 256, (count, size, size, channels), dtype=np.uint8)


@torch.inference_mode()
def expected(bundle: resnetkit.Bundle, pixels: Pixels, output: str = "logits") -> np.ndarray:
    module = bundle.module()
    inputs = normalise(torch.from_numpy(pixels).movedim(-1, -3), bundle.preprocess)
    if output == "embeddings":
        return module.forward_features(inputs).mean((2, 3)).numpy()
    return module(inputs).flatten(1).numpy()


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    assert found.shape == wanted.shape
    assert found.dtype == np.float32
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def sizes(network: Network) -> int:
    """A small side that the head takes and that leaves something to round."""
    options = network.options
    if options.head_pool == "7x7":
        return 7 * options.output_stride
    return 2 * options.natural_stride + (options.rounding == "ceil") * 3


def check(network: Network) -> None:
    output = "logits" if network.options.num_classes else "embeddings"
    bundle = bundle_of(network, sizes(network))
    model = onnx_model(folded(bundle), output=output)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    pixels = pixels_for(bundle)
    wanted = expected(bundle, pixels, output)
    for name in ENGINES:
        found = open_engine(bundle, name, output).answer(pixels)
        assert relative(found, wanted) < NEAR, name


def kinds() -> Iterator[str]:
    """Of the catalogue's networks, one for each set of options that differ besides its size."""
    seen = set()
    for entry in resnetkit.catalog():
        options = entry.network().options.to_dict()
        for size in ("depths", "widths", "width_per_group", "num_classes", "conv_widths", "blocks"):
            del options[size]
        options["groups"] = options["groups"] > 1
        key = repr(options)
        if key not in seen:
            seen.add(key)
            yield entry.name


@pytest.mark.parametrize("name", list(kinds()))
def test_every_kind_of_network(name: str) -> None:
    check(small(resnetkit.network(name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_network(name: str) -> None:
    check(resnetkit.network(name))


@pytest.mark.parametrize(
    "changes",
    [
        {"stem": "deep", "output_stride": 8, "shortcut": "avgpool+projection"},
        {"shortcut": "avgpool+projection", "rounding": "ceil"},
        {"shortcut": "pad", "rounding": "ceil", "stem_widths": (8,)},
        {"stem_pool": "caffe", "output_stride": 16, "dilation_entry": "own"},
        {"norm": "none", "conv_bias": True, "head_pool": "7x7"},
        {"norm": "group", "norm_groups": 4, "anti_alias": "blur", "output_stride": 8},
        {"conv_bias": True, "stride_on": "1x1", "in_chans": 1},
        {"efficient_attention": True, "anti_alias": "average"},
    ],
    ids="-".join,
)
def test_options(changes: dict[str, object]) -> None:
    widths, depths = (8, 16, 32, 32), (1, 2, 1, 1)
    check(resnetkit.network("resnet50", widths=widths, depths=depths, num_classes=5, **changes))


@pytest.fixture(scope="module")
def bundle() -> resnetkit.Bundle:
    network = resnetkit.network("resnet18", widths=(8, 8, 16, 16), num_classes=5)
    facts = {
        "channels": "BGR",
        "divisor": 1.0,
        "mean": (103.5, 116.3, 123.7),
        "std": (57.4, 57.1, 1),
    }
    return bundle_of(network, 32, **facts)


@pytest.mark.parametrize("name", ENGINES)
def test_blue_first_and_a_stream(bundle: resnetkit.Bundle, name: EngineName) -> None:
    """Channels in another order; batches of several sizes, in order, only a few ahead."""
    engine = open_engine(bundle, name, threads=1)
    pixels = pixels_for(bundle, 40)
    wanted = expected(bundle, pixels)
    taken = 0

    def batches() -> Iterator[Pixels]:
        nonlocal taken
        for batch in np.split(pixels, [4, 5, 8, 12, 14, 15, 20, 24, 28, 32, 36]):
            taken += 1
            yield batch

    infer_batches = engine.infer_batches(batches())
    first = next(infer_batches)
    assert taken <= 5, "read far ahead"
    found = np.concatenate([first, *infer_batches])
    assert relative(found, wanted) < NEAR
    embeddings = open_engine(bundle, name, "embeddings").answer(pixels[:3])
    assert relative(embeddings, expected(bundle, pixels[:3], "embeddings")) < NEAR
    facts = engine.to_dict()
    assert (facts["engine"], facts["precision"], facts["threads"]) == (name, "fp32", 1)


@pytest.mark.parametrize("name", ENGINES)
def test_pixels_between_whole_numbers(bundle: resnetkit.Bundle, name: EngineName) -> None:
    """float32 pixels are taken as they are, and are not taken for uint8 ones or the reverse."""
    whole, facts = pixels_for(bundle), bundle.preprocess
    engine = open_engine(bundle, name, pixels="float32")
    between = whole.astype(np.float32) * np.float32(0.77)
    given = (between[..., ::-1] - np.array(facts.mean)) / np.array(facts.std)
    with torch.inference_mode():
        wanted = bundle.module()(torch.from_numpy(given.transpose(0, 3, 1, 2)).float()).numpy()
    assert relative(engine.answer(between), wanted) < NEAR
    assert relative(engine.answer(whole.astype(np.float32)), expected(bundle, whole)) < NEAR
    for wrong, pixels in ((engine, whole), (open_engine(bundle, name), between)):
        with pytest.raises(InputError, match="the engine takes"):
            wrong.answer(pixels)
        with pytest.raises(InputError, match="the engine takes"):
            list(wrong.infer_batches([pixels]))


@pytest.mark.parametrize("name", ENGINES)
def test_what_fails_while_batches_are_made_is_told(
    bundle: resnetkit.Bundle, name: EngineName
) -> None:
    def batches() -> Iterator[Pixels]:
        yield pixels_for(bundle)
        raise InputError("the folder has gone")

    with pytest.raises(InputError, match="has gone"):
        list(open_engine(bundle, name).infer_batches(batches()))


def test_half_precision_is_computed_in_float32(bundle: resnetkit.Bundle) -> None:
    for kind in (torch.float16, torch.bfloat16):
        arrays = {
            name: values.to(kind) if values.is_floating_point() else values
            for name, values in bundle.arrays.items()
        }
        half = resnetkit.Bundle(
            network=bundle.network,
            arrays=arrays,
            preprocess=bundle.preprocess,
            classes=bundle.classes,
        )
        found = open_engine(half, "onnxruntime").answer(pixels_for(half))
        single = {name: v.float() if v.is_floating_point() else v for name, v in arrays.items()}
        same = resnetkit.Bundle(
            network=bundle.network,
            arrays=single,
            preprocess=bundle.preprocess,
            classes=bundle.classes,
        )
        assert relative(found, expected(same, pixels_for(half))) < NEAR


@pytest.mark.slow
def test_compiled(bundle: resnetkit.Bundle) -> None:
    engine = open_engine(bundle, "torch-compiled")
    pixels = pixels_for(bundle, 4)
    assert relative(engine.answer(pixels), expected(bundle, pixels)) < NEAR
    assert engine.name == "torch-compiled"


def test_bfloat16_only_if_asked_for_and_only_where_it_is(
    bundle: resnetkit.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = pixels_for(bundle, 4)
    wanted = expected(bundle, pixels)
    assert relative(open_engine(bundle, "openvino").answer(pixels), wanted) < NEAR
    if openvino.has_bf16():
        engine = open_engine(bundle, "openvino-bf16")
        assert (engine.name, engine.precision) == ("openvino-bf16", "bf16")
        # Eight bits of a number are kept: the answers are others, and near.
        assert NEAR < relative(engine.answer(pixels), wanted) < 0.05
    monkeypatch.setattr(openvino, "has_bf16", lambda: False)
    with pytest.raises(InputError, match=r"a CPU with bfloat16 .* use openvino"):
        open_engine(bundle, "openvino-bf16")


@pytest.mark.parametrize(("name", "far"), [("torch-bf16", 0.05), ("torch-fp16", 0.005)])
def test_torch_in_fewer_bits(bundle: resnetkit.Bundle, name: EngineName, far: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    for output in ("logits", "embeddings"):
        wanted = open_engine(bundle, "torch", output, device="cpu").answer(pixels)
        engine = open_engine(bundle, name, output, device="cpu")
        assert (engine.name, engine.precision) == (name, name.removeprefix("torch-"))
        rows = engine.answer(pixels)
        assert rows.dtype == np.float32
        # Eight or eleven bits of a number are kept: the answers are others, and near.
        assert NEAR < relative(rows, wanted) < far
    assert selection.chosen(bundle, "cuda")[0] == "torch"


def test_auto_takes_the_fastest_installed(
    bundle: resnetkit.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "on_gpu", lambda: False)
    assert open_engine(bundle).name == "openvino"
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "openvino", None)
        assert open_engine(bundle).name == "onnxruntime"
        without.setitem(sys.modules, "onnxruntime", None)
        assert open_engine(bundle).name == "torch"
        assert "resnetkit[openvino]" in selection.chosen()[1]
        extras: dict[EngineName, str] = {
            "openvino": "openvino", "openvino-bf16": "openvino", "onnxruntime": "onnx",
        }  # fmt: skip
        for name, extra in extras.items():
            with pytest.raises(InputError, match=rf"pip install 'resnetkit\[{extra}\]'"):
                open_engine(bundle, name)
    monkeypatch.setattr(selection, "on_gpu", lambda: True)
    assert selection.chosen() == ("torch", "the engine for the GPU")
    assert selection.chosen(device="cpu")[0] == "openvino"


def test_what_cannot_be_opened(bundle: resnetkit.Bundle) -> None:
    headless = bundle_of(bundle.network.override(num_classes=None), 32)
    for name in ENGINES:
        with pytest.raises(InputError, match="no classes to rank"):
            open_engine(headless, name)
    with pytest.raises(InputError, match="must be one of auto, torch"):
        open_engine(bundle, "tensorrt")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="number of threads is 0"):
        open_engine(bundle, threads=0)
    with pytest.raises(InputError, match="on the cpu, not on cuda"):
        open_engine(bundle, "openvino", device="cuda")
    with pytest.raises(InputError, match="device nowhere is not available"):
        open_engine(bundle, device="nowhere")


@pytest.mark.parametrize(
    ("command", "name", "heavy"),
    [
        ("predict", "openvino", "torch torchvision onnx nncf sklearn"),
        ("predict", "onnxruntime", "torch torchvision onnx nncf sklearn"),
        ("evaluate", "openvino", "torch torchvision onnx nncf"),
    ],
)
def test_from_a_bundle_and_files_to_answers_without_torch(
    command: str, name: str, heavy: str, bundle: resnetkit.Bundle, tmp_path: Path
) -> None:
    bundle.save(tmp_path / "net.safetensors")
    for label in bundle.classes[:2]:
        (tmp_path / "images" / label).mkdir(parents=True)
        PIL.Image.fromarray(pixels_for(bundle, 1)[0]).save(tmp_path / "images" / label / "1.jpg")
    program = (
        "import sys\n"
        "from resnetkit.cli.main import main\n"
        f"assert main([{command!r}, *sys.argv[1:], '--engine', {name!r}]) == 0\n"
        f"came = set({heavy!r}.split()) & set(sys.modules)\n"
        "assert not came, came\n"
    )
    paths = (str(tmp_path / name) for name in ("net.safetensors", "images"))
    done = subprocess.run(
        [sys.executable, "-c", program, *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"engine {name}" in done.stderr

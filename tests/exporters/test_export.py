"""Exported files answer as their bundle does, say so truthfully, and are used as it is."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import PIL.Image
import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

import resnetkit
from forking import Forks
from photographs import CLASSES, write_divided
from resnetkit.bundle.opening import open_model
from resnetkit.cli.main import main
from resnetkit.data.datasets.digits import digits
from resnetkit.errors import InputError
from resnetkit.evaluation.evaluation import evaluate
from resnetkit.exporters import agreement, writers
from resnetkit.exporters.agreement import Agreement
from resnetkit.exporters.exporter import LEADS, export
from resnetkit.exporters.quantization import Bar
from resnetkit.inference.engines.exported_model import Exported
from resnetkit.inference.engines.selection import open_engine
from resnetkit.training import make_recipe
from resnetkit.training.run import run_recipe

TINY = resnetkit.network("resnet20", depths=(1, 1), widths=(16, 32), stem_widths=(16,))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the digits that is right most of the time."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    run_recipe(make_recipe(model=TINY, size=8, epochs=12, batch_size=64, seed=5), folder)
    return folder


@pytest.fixture(scope="module")
def best(run: Path) -> Path:
    return run / "best.safetensors"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_divided(tmp_path_factory.mktemp("data") / "pictures", 6, 3)


@pytest.fixture(scope="module")
def colourful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle in no run, with colours in Caffe's order and the classes of the photographs."""
    torch.manual_seed(0)
    module = resnetkit.build("resnet18", widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_classes=5)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_var.uniform_(0.5, 2)
    preprocess = resnetkit.Preprocess(
        size=40,
        resize_to=46,
        channels="BGR",
        divisor=1.0,
        mean=(103.9, 116.8, 123.7),
        std=(58,) * 3,
    )
    path = tmp_path_factory.mktemp("bundle") / "net.safetensors"
    resnetkit.Bundle.from_module(
        module, preprocess=preprocess, classes=CLASSES, origin={"from": "a test"}
    ).save(path)
    return path


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits of the test in one folder: of 359 images two are more than the half point of
    accuracy that may be lost, and rounding differs by processor."""
    folder = tmp_path_factory.mktemp("digits")
    for number, example in enumerate(digits().parts["test"]):
        PIL.Image.fromarray(example.image).save(folder / f"{number}.png")
    return folder


FILES = {
    "onnx": "net.onnx",
    "openvino": "net.xml",
    "torch-export": "net.pt2",
    "bundle": "net.safetensors",
}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("to", FILES)
def test_there_and_used_as_the_bundle(to: str, precision: str, best: Path, tmp_path: Path) -> None:
    target = tmp_path / FILES[to]
    done = export(best, target, to=to, precision=precision, dynamic_batch=precision == "fp32")
    found = done.agreement
    assert found.images == len(digits().parts["test"])
    assert found.data == "digits"
    assert found.agreeing >= 0.99
    assert found.difference < (1e-4 if precision == "fp32" else 0.1) * found.largest
    report = json.loads((tmp_path / f"{target.name}.agreement.json").read_text())
    assert report["agreement"]["images"] == found.images
    assert {path.name for path in tmp_path.iterdir()} == {
        *report["sha256"],
        f"{target.name}.agreement.json",
    }
    bundle, opened = resnetkit.load(best), open_model(target)
    assert (opened.network, opened.preprocess, opened.classes) == (
        bundle.network,
        bundle.preprocess,
        bundle.classes,
    )
    assert opened.origin["made_by"] == "resnetkit train"
    before, after = evaluate(best, "digits"), evaluate(target, "digits")
    assert found.accuracy is not None
    assert found.accuracy[0] == pytest.approx(before.evaluation.accuracy)
    assert found.accuracy[1] == pytest.approx(after.evaluation.accuracy)
    assert after.engine["precision"] == ("fp32" if to == "bundle" else precision)


def test_answers_of_a_file_are_those_of_the_bundle(
    colourful: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Class names, order of channels and cut, by the command line, in every format of a file."""
    images = [str(path) for path in sorted((pictures / "test" / "coffee").iterdir())]
    for name, to in (("net.onnx", "onnx"), ("net.xml", "openvino"), ("net.pt2", "torch-export")):
        assert main(["export", str(colourful), str(tmp_path / name), "--to", to]) == 0
    said = capsys.readouterr()
    assert "scikit-learn's two photographs" in said.out
    infer_batches = []
    for path in (colourful, *(tmp_path / name for name in ("net.onnx", "net.xml", "net.pt2"))):
        assert main(["predict", str(path), *images, "--format", "json"]) == 0
        said = capsys.readouterr()
        assert "engine " in said.err
        infer_batches.append(json.loads(said.out))
    for found in infer_batches[1:]:
        for ours, theirs in zip(infer_batches[0], found, strict=True):
            assert ours["image"] == theirs["image"]
            for one, other in zip(ours["predictions"], theirs["predictions"], strict=True):
                assert one["label"] == other["label"]
                assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)


def test_what_other_tools_find_in_it(colourful: Path, tmp_path: Path) -> None:
    export(colourful, tmp_path / "net.onnx", to="onnx", dynamic_batch=True)
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    (entry,) = model.metadata_props
    document = json.loads(entry.value)
    assert document["classes"] == list(CLASSES)
    assert document["origin"] == {"from": "a test"}
    assert document["preprocess"]["mean"] == [103.9, 116.8, 123.7]
    export(colourful, tmp_path / "net.xml", to="openvino")
    core = openvino.Core()
    read = core.read_model(tmp_path / "net.xml")
    assert json.loads(read.get_rt_info(["resnetkit"]).value)["classes"] == list(CLASSES)
    assert read.inputs[0].shape == [1, 40, 40, 3]
    export(colourful, tmp_path / "net.pt2", to="torch-export", dynamic_batch=True)
    extra = {"resnetkit.json": ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=extra).module()
    assert json.loads(extra["resnetkit.json"])["classes"] == list(CLASSES)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    ours = open_engine(resnetkit.load(colourful), "torch").answer(pixels)
    assert np.allclose(program(torch.from_numpy(pixels)).numpy(), ours, atol=1e-4)
    loaded = open_engine(open_model(tmp_path / "net.pt2"), "torch").answer(pixels)
    assert np.allclose(loaded, ours, atol=1e-4)


@pytest.mark.parametrize("changes", [{}, {"interpolation": "bicubic"}, {"resize": "squash",
    "resize_to": None}, {"centre": "floor", "resize_to": 41}])  # fmt: skip
@pytest.mark.parametrize(("to", "name"), [("onnx", "net.onnx"), ("openvino", "net.xml")])
def test_the_graph_resizes_and_cuts(
    to: str, name: str, changes: dict[str, object], colourful: Path, pictures: Path, tmp_path: Path
) -> None:
    bundle = resnetkit.load(colourful)
    bundle = replace(bundle, preprocess=replace(bundle.preprocess, **changes))
    bundle.save(tmp_path / "net.safetensors")
    target = tmp_path / name
    done = export(
        tmp_path / "net.safetensors", target, to=to, with_preprocessing=True, agree_on=pictures
    )
    assert done.agreement.agreeing >= 0.99
    assert done.agreement.difference < 0.02 * done.agreement.largest
    engine = open_engine(open_model(target))
    assert engine.options.cuts
    (prediction,) = measure_rows(target, pictures)
    assert prediction in CLASSES


def measure_rows(target: Path, pictures: Path) -> list[str]:
    from resnetkit.inference.prediction import predict

    opened = open_model(target)
    image = next((pictures / "test" / "rocket").iterdir())
    return [
        p.label for p in predict(open_engine(opened), opened.preprocess, opened.classes, [image])
    ]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_cut_pixels_are_within_a_grey_level(interpolation: str) -> None:
    """Of Pillow's, on noise, in both runtimes; bicubic on smooth images, see ``cutting``.

    Odd sides have no pixel's centre between two pixels, where the nearest one is anyone's guess.
    """
    import onnxruntime

    from resnetkit.data.decoding.decode import cut
    from resnetkit.exporters.preprocessing_graph import _Cutter
    from resnetkit.inference.engines.onnx_builder import GraphBuilder
    from resnetkit.inference.engines.onnx_export import as_maps

    facts = {"interpolation": interpolation, "mean": (0, 0, 0), "std": (1, 1, 1)}
    preprocess = resnetkit.Preprocess(size=32, resize_to=37, **facts)
    graph = GraphBuilder("cut")
    pixels = graph.input("pixels", "uint8", (1, "H", "W", 3))
    graph.output(_Cutter(graph, preprocess).cut(as_maps(graph, pixels)), "float32", (1, 3, 32, 32))
    model = graph.serialise({})
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    session = onnxruntime.InferenceSession(model)
    compiled = openvino.Core().compile_model(
        openvino.Core().read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    draw = np.random.default_rng(0)
    for height, width in ((301, 401), (131, 97), (21, 33), (37, 37), (517, 47)):
        image = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
        if interpolation == "bicubic":
            image = np.asarray(PIL.Image.fromarray(image[:9, :9]).resize((width, height)))
        wanted = cut(PIL.Image.fromarray(image), preprocess).astype(int)
        for found in (session.run(None, {"pixels": image[None]})[0], compiled(image[None])[0]):
            assert np.abs(found[0].transpose(1, 2, 0) - wanted).max() <= (
                0 if interpolation == "nearest" else 1
            )


@pytest.mark.parametrize(("to", "name"), [("openvino", "net.xml"), ("onnx", "net.onnx")])
def test_int8(to: str, name: str, best: Path, unlabelled: Path, tmp_path: Path) -> None:
    done = export(
        best, tmp_path / name, to=to, precision="int8", agree_on=unlabelled, min_agreement=95
    )
    assert len(done.spared) < 4, "most of its convolutions are int8"
    assert (done.agreement.images, done.agreement.accuracy) == (359, None)
    assert 0.95 <= done.agreement.agreeing <= 1
    assert done.agreement.difference > 1e-3 * done.agreement.largest, "int8 is not float32"
    before, after = evaluate(best, "digits"), evaluate(tmp_path / name, "digits")
    lost = before.evaluation.accuracy - after.evaluation.accuracy
    assert lost <= 1 - done.agreement.agreeing, "what changed its class may all have been right"
    if to == "openvino":
        model = openvino.Core().read_model(tmp_path / name)
        assert "FakeQuantize" in {op.get_type_name() for op in model.get_ops()}
    else:
        model = onnx.load(tmp_path / name)
        assert "QuantizeLinear" in {node.op_type for node in model.graph.node}


def awkward(best: Path, path: Path) -> Path:
    """The same network with one channel 3000 times as large between two convolutions.

    In float32 nothing changes; one scale for all channels of a map leaves the others no values.
    """
    bundle = resnetkit.load(best)
    arrays = dict(bundle.arrays)
    for name, factor in (("layer1.0.bn1.weight", 3000), ("layer1.0.bn1.bias", 3000)):
        arrays[name] = arrays[name].clone()
        channel = int(arrays["layer1.0.bn1.weight"].abs().argmax())
        arrays[name][channel] *= factor
    arrays["layer1.0.conv2.weight"] = arrays["layer1.0.conv2.weight"].clone()
    arrays["layer1.0.conv2.weight"][:, channel] /= 3000
    replace(bundle, arrays=arrays).save(path)
    return path


def test_the_worst_layers_stay_in_float32(best: Path, unlabelled: Path, tmp_path: Path) -> None:
    path = awkward(best, tmp_path / "awkward.safetensors")
    done = export(
        path, tmp_path / "net.xml", to="openvino", precision="int8", calibrate="digits",
        agree_on=unlabelled, min_agreement=95,
    )  # fmt: skip
    assert "layer1.0.conv2" in done.spared
    assert len(done.spared) < 5
    assert done.agreement.agreeing >= 0.95


@pytest.mark.slow
def test_accuracy_that_is_lost(best: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Half a point may be; where more is, every bar is asked for in turn, and nothing written."""
    whole = Agreement(
        images=1000, data="", agreeing=1.0, difference=0.1, largest=9.0, accuracy=None,
        engines=({}, {}),
    )  # fmt: skip
    assert whole.problem(99) is None
    assert replace(whole, accuracy=(0.900, 0.896)).problem(99) is None
    assert replace(whole, accuracy=(0.900, 0.950)).problem(99) is None
    reason = "it loses 0.60 points of accuracy, and the maximum is 0.5"
    assert replace(whole, accuracy=(0.900, 0.894)).problem(99) == reason
    assert replace(whole, agreeing=0.99).problem(99) is None
    assert "98.90 % of 1000 images" in str(replace(whole, agreeing=0.989).problem(99))
    monkeypatch.setattr(agreement, "MOST_LOST", -100.0)
    bars: list[Bar | None] = []
    real = writers.quantised_onnx

    def quantised(model: Any, images: Any, bar: Bar | None) -> Any:
        bars.append(bar)
        return real(model, images, None)

    monkeypatch.setattr(writers, "quantised_onnx", quantised)
    with pytest.raises(InputError, match=r"net\.onnx is not written: it loses"):
        export(best, tmp_path / "net.onnx", to="onnx", precision="int8", min_agreement=50)
    assert [bar and bar.lead for bar in bars] == [None, *LEADS]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("lead", "ranked", "after", "met"),
    [
        (0, True, (2, 3, 1), True),
        (0, True, (3, 3, 1), True),
        (0, True, (3.1, 3, 1), False),
        (0.5, True, (2, 3, 1), True),
        (0.5, True, (2.1, 3, 1), False),
        (0.5, True, (1, 2, 1.9), False),
        (1, True, (1, 3, 0), True),
        (1, True, (1.01, 3, 0), False),
        (0, False, (1, 3, 0.3), True),
        (0, False, (1, 3, 0.4), False),
        (0.5, False, (1, 3, 0.1), True),
        (0.5, False, (1, 3, 0.2), False),
        (1, False, (1, 3, 0), True),
    ],
)
def test_what_is_kept_of_an_image(
    lead: float, ranked: bool, after: tuple[float, ...], met: bool
) -> None:
    """The lead in float32 is 2; the length is 3.16, of which a tenth is 0.316."""
    bar = Bar(least=99, lead=lead, ranked=ranked)
    assert bar.met(np.array([[1.0, 3.0, 0.0]]), np.array([after], float)) is met


def test_below_the_bar_nothing_is_left(
    best: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = awkward(best, tmp_path / "awkward.safetensors")
    (tmp_path / "net.onnx").write_text("what was there")
    arguments = [
        "--to",
        "onnx",
        "--precision",
        "fp16",
        "--min-agreement",
        "100",
        "--agree-on",
        "digits",
    ]
    bundle = resnetkit.load(path)
    huge = {**bundle.arrays, "fc.weight": bundle.arrays["fc.weight"] * 1e6}
    replace(bundle, arrays=huge).save(path)
    assert main(["export", str(path), str(tmp_path / "net.onnx"), *arguments]) == 2
    said = capsys.readouterr().err
    assert "net.onnx is not written" in said
    assert (tmp_path / "net.onnx").read_text() == "what was there"
    assert {p.name for p in tmp_path.iterdir()} == {"awkward.safetensors", "net.onnx"}


@pytest.mark.parametrize("cuts", [False, True])
def test_a_repository_for_triton(cuts: bool, colourful: Path, tmp_path: Path) -> None:
    target = tmp_path / "my models"
    export(colourful, target, to="triton", with_preprocessing=cuts)
    files = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    name = "my-models"
    assert files == {f"{name}/config.pbtxt", f"{name}/labels.txt", f"{name}/1/model.onnx"}
    text = (target / name / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    model = onnx.load(target / name / "1" / "model.onnx")
    for declared, values in (
        (config.input, model.graph.input),
        (config.output, model.graph.output),
    ):
        (mine,), (theirs,) = declared, values
        assert mine.name == theirs.name
        kind = {onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.FLOAT: "TYPE_FP32"}
        tensor = theirs.type.tensor_type
        assert model_config_pb2.DataType.Name(mine.data_type) == kind[tensor.elem_type]
        sizes = [dim.dim_value or -1 for dim in tensor.shape.dim]
        assert list(mine.dims) == (sizes if cuts else sizes[1:])
    assert config.name == name
    assert (config.max_batch_size > 0) is not cuts
    assert (target / name / "labels.txt").read_text().split("\n")[:5] == list(CLASSES)
    assert config.output[0].label_filename == "labels.txt"


def test_a_repository_for_openvino_model_server(colourful: Path, tmp_path: Path) -> None:
    target = tmp_path / "served"
    export(colourful, target, to="ovms", dynamic_batch=True)
    config = json.loads((target / "config.json").read_text())
    (entry,) = config["model_config_list"]
    place = target / entry["config"]["base_path"]
    assert entry["config"]["name"] == "served"
    model = openvino.Core().read_model(place / "1" / "model.xml")
    assert model.inputs[0].get_any_name() == "pixels"
    assert model.outputs[0].get_any_name() == "logits"
    compiled = openvino.Core().compile_model(model, "CPU", entry["config"]["plugin_config"])
    preprocess = resnetkit.load(colourful).preprocess
    shape = (2, preprocess.size, preprocess.size, preprocess.channel_count)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    wanted = open_engine(resnetkit.load(colourful), "torch").answer(pixels)
    assert np.abs(compiled(pixels)[0] - wanted).max() < 1e-4 * np.abs(wanted).max()
    with pytest.raises(InputError, match="already exists"):
        export(colourful, target, to="ovms")


def test_a_network_without_classes(tmp_path: Path) -> None:
    module = resnetkit.build("resnet18", widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), num_classes=None)
    bundle = resnetkit.Bundle.from_module(module, preprocess=resnetkit.Preprocess(size=32))
    bundle.save(tmp_path / "net.safetensors")
    done = export(tmp_path / "net.safetensors", tmp_path / "net.onnx", to="onnx")
    assert (done.agreement.agreeing, done.agreement.accuracy) == (1.0, None)
    assert open_model(tmp_path / "net.onnx").output == "embeddings"


@pytest.mark.parametrize(
    ("name", "choice", "reason"),
    [
        ("net.xml", {"to": "onnx"}, "must end in .onnx"),
        ("net.pt2", {"to": "torch-export", "precision": "int8"}, "int8 requires"),
        ("net.pt2", {"to": "torch-export", "with_preprocessing": True}, "requires onnx"),
        ("net.onnx", {"to": "onnx", "with_preprocessing": True, "dynamic_batch": True}, "differ"),
        ("net.onnx", {"to": "onnx", "precision": "int8"}, "give calibrate"),
        ("net.onnx", {"to": "onnx", "min_agreement": 101}, "a percentage"),
        ("net.onnx", {"to": "onnx", "agree_on": "nowhere"}, "does not exist"),
        ("none/net.onnx", {"to": "onnx"}, "cannot write"),
    ],
)
def test_what_cannot_be_written(
    name: str, choice: dict[str, object], reason: str, colourful: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=reason):
        export(colourful, tmp_path / name, **choice)
    assert list(tmp_path.iterdir()) == []


class Bomb:
    """Pickled, it writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    ("to", "name"),
    [("openvino", "a.xml"), ("onnx", "a.onnx"), ("torch-export", "a.pt2"),
     ("bundle", "a.safetensors"), ("ovms", "repository")],
)  # fmt: skip
def test_a_full_disk(to: str, name: str, colourful: Path, tmp_path: Path, forks: Forks) -> None:
    """A limit on the size of files stops the write in the middle, as a full disk does."""
    code = forks.run("export", colourful, tmp_path / name, "--to", to, limit=20_000)
    assert code == 2, forks.errors
    *_, last = forks.errors.splitlines()
    assert "cannot write" in last
    assert name in last
    assert "Traceback" not in forks.errors
    assert os.listdir(tmp_path) == []


def test_hostile_files(colourful: Path, tmp_path: Path) -> None:
    """A changed file is refused in one line, or opened; nothing in it is run."""
    import pickle
    import zipfile

    for name, to in (("net.onnx", "onnx"), ("net.xml", "openvino"), ("net.pt2", "torch-export")):
        export(colourful, tmp_path / name, to=to)
    trap = tmp_path / "trap"
    with zipfile.ZipFile(tmp_path / "net.pt2") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (config,) = [name for name in entries if name.endswith("model_weights_config.json")]
    hostile = tmp_path / "hostile.pt2"
    with zipfile.ZipFile(hostile, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, pickle.dumps(Bomb(trap)) if "sample_inputs" in name else content)
    pixels = np.zeros((1, 40, 40, 3), np.uint8)
    assert open_engine(open_model(hostile)).answer(pixels).shape == (1, 5)
    with zipfile.ZipFile(hostile, "w") as archive:
        for name, content in entries.items():
            text = content.replace(b'"use_pickle": false', b'"use_pickle": true')
            archive.writestr(name, text if name == config else content)
    with pytest.raises(InputError, match="no plain numbers"):
        open_engine(open_model(hostile))
    assert not trap.exists()
    draw = np.random.default_rng(0)
    for name in ("net.onnx", "net.xml", "net.pt2"):
        whole = (tmp_path / name).read_bytes()
        for number in range(12):
            content = bytearray(whole)
            if number % 3 == 0:
                content = content[: int(draw.integers(1, len(content)))]
            else:
                place = int(
                    draw.integers(0, min(len(content), 4000 if number % 3 == 1 else 1 << 30))
                )
                content[place] ^= int(draw.integers(1, 256))
            changed = tmp_path / f"changed{number}{Path(name).suffix}"
            changed.write_bytes(content)
            if name == "net.xml":
                shutil.copy(tmp_path / "net.bin", changed.with_suffix(".bin"))
            try:
                open_engine(open_model(changed)).answer(pixels)
            except InputError as error:
                assert str(changed) in str(error) or "cannot" in str(error)
    (tmp_path / "foreign.onnx").write_bytes(
        onnx.helper.make_model(onnx.load(tmp_path / "net.onnx").graph).SerializeToString()
    )
    with pytest.raises(InputError, match=r"not written by resnetkit\.export.*convert"):
        open_model(tmp_path / "foreign.onnx")
    (tmp_path / "net.bin").unlink()
    with pytest.raises(InputError, match=r"no net\.bin beside it"):
        open_model(tmp_path / "net.xml")


def test_an_engine_that_cannot_run_the_file(colourful: Path, tmp_path: Path) -> None:
    export(colourful, tmp_path / "net.xml", to="openvino")
    opened = open_model(tmp_path / "net.xml")
    assert isinstance(opened, Exported)
    with pytest.raises(InputError, match="runs on openvino or openvino-bf16, not on torch"):
        open_engine(opened, "torch")
    with pytest.raises(InputError, match="outputs logits, not embeddings"):
        open_engine(opened, output="embeddings")
    assert opened.engines == ("openvino", "openvino-bf16")
    export(colourful, tmp_path / "cut.xml", to="openvino", with_preprocessing=True)
    cutting = open_model(tmp_path / "cut.xml")
    assert isinstance(cutting, Exported)
    with pytest.raises(InputError, match="runs on openvino, not on openvino-bf16"):
        open_engine(cutting, "openvino-bf16")


@pytest.mark.parametrize(("to", "name"), [("onnx", "net.onnx"), ("openvino", "net.xml"),
    ("torch-export", "net.pt2")])  # fmt: skip
def test_a_file_that_was_altered_is_not_the_one_that_was_proved(
    to: str, name: str, colourful: Path, tmp_path: Path
) -> None:
    target = tmp_path / name
    export(colourful, target, to=to)
    weights = target.with_suffix(".bin") if to == "openvino" else target
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match=rf"{weights.name} was modified after its export"):
        open_model(target)
    report = tmp_path / f"{name}.agreement.json"
    kept = report.read_text()
    report.write_text("{}")
    with pytest.raises(InputError, match=r"agreement\.json cannot be read"):
        open_model(target)
    report.unlink()
    open_model(target)
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    report.write_text(kept)
    for path in list(tmp_path.iterdir()):  # renamed together
        path.rename(tmp_path / path.name.replace("net", "other", 1))
    open_model(tmp_path / f"other{target.suffix}")


def test_the_program_of_a_pt2_is_what_is_proved(
    colourful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resnetkit.inference.engines.torch import WithNormalization

    real = WithNormalization.forward
    done = export(colourful, tmp_path / "net.pt2", to="torch-export", dynamic_batch=True)
    assert done.agreement.engines[1]["engine"] == "torch-export"

    def wrong(self: WithNormalization, pixels: torch.Tensor) -> torch.Tensor:
        rows = real(self, pixels)
        return rows.flip(1) if torch.compiler.is_exporting() else rows

    monkeypatch.setattr(WithNormalization, "forward", wrong)
    with pytest.raises(InputError, match="is not written"):
        export(colourful, tmp_path / "wrong.pt2", to="torch-export")


def test_class_names_that_are_not_those_of_the_graph(
    colourful: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(colourful, tmp_path / "net.onnx", to="onnx")
    (tmp_path / "net.onnx.agreement.json").unlink()
    model = onnx.load(tmp_path / "net.onnx")
    document = json.loads(model.metadata_props[0].value)
    document["classes"] = [*CLASSES, "a"]
    document["network"] = resnetkit.load(colourful).network.override(num_classes=6).to_dict()
    model.metadata_props[0].value = json.dumps(document)
    onnx.save(model, tmp_path / "net.onnx")
    image = str(next((pictures / "test" / "coffee").iterdir()))
    for command in (("predict", image), ("evaluate", str(pictures))):
        assert main([command[0], str(tmp_path / "net.onnx"), *command[1:]]) == 2
        assert "has 5 logits, and there are 6 class names" in capsys.readouterr().err


def test_labels_of_a_server_whose_folders_were_no_utf8(colourful: Path, tmp_path: Path) -> None:
    bundle = resnetkit.load(colourful)
    path = tmp_path / "net.safetensors"
    replace(bundle, classes=(os.fsdecode(b"caf\xe9"), *CLASSES[1:])).save(path)
    export(path, tmp_path / "models", to="ovms")
    labels = (tmp_path / "models" / "models" / "labels.txt").read_text()
    assert labels.startswith("caf\\udce9\n")

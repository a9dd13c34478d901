"""A classifier as one HTML file: its graph, its parts, and what it refuses."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import resnetkit
from http_serving import http_serving
from npm_packages import RUNTIME, runtime_cached
from resnetkit.cli.main import main
from resnetkit.errors import InputError
from resnetkit.exporters import web_runtime
from resnetkit.exporters.web_graph import CAMS, halved, with_cams
from resnetkit.inference.engines.conv_bn_fusion import folded
from resnetkit.inference.engines.onnx_export import onnx_model

CLASSES = ("ant", "bee", "</script><b>", "“fly” & ü")


def bundle(network: str = "resnet20", size: int = 32, **options: object) -> resnetkit.Bundle:
    torch.manual_seed(0)
    module = resnetkit.build(network, num_classes=len(CLASSES), **options)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
    channels = module.network.options.in_chans
    grey = {"channels": "L", "mean": (0.5,), "std": (0.2,)} if channels == 1 else {}
    preprocess = resnetkit.Preprocess(size=size, **grey)
    return resnetkit.Bundle.from_module(module, preprocess=preprocess, classes=CLASSES)


def graph(made: resnetkit.Bundle) -> onnx.ModelProto:
    return onnx.load_from_string(onnx_model(folded(made), batch=1))


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("resnet20", {}),
        ("resnet20", {"in_chans": 1}),
        ("resnet50", {"depths": (1, 1, 1, 1), "widths": (8, 8, 16, 16), "squeeze_excitation": 4}),
    ],
)
def test_the_mean_of_a_map_is_its_logit(network: str, options: dict[str, object]) -> None:
    made = bundle(network, size=64, **options)
    model = graph(made)
    assert with_cams(model)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    shape = (1, 64, 64, made.preprocess.channel_count)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    logits, cams = session.run(["logits", CAMS], {"pixels": pixels})
    assert cams.shape[:2] == (1, len(CLASSES))
    assert cams[0].std((1, 2)).min() > 0
    bias = made.numbers["fc.bias"]
    np.testing.assert_allclose(cams.mean((2, 3)) + bias, logits, rtol=1e-4, atol=1e-5)


def test_a_network_without_a_global_pool_has_no_maps() -> None:
    made = bundle("resnet20", head_pool="7x7", size=28)
    model = graph(made)
    before = model.SerializeToString()
    assert not with_cams(model)
    assert model.SerializeToString() == before


def test_weights_in_half_the_space_are_computed_in_float32() -> None:
    made = bundle()
    model, whole = graph(made), graph(made)
    halved(model)
    onnx.checker.check_model(model, full_check=True)
    assert model.ByteSize() < 0.56 * whole.ByteSize()
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    [half], [exact] = (
        onnxruntime.InferenceSession(each.SerializeToString()).run(["logits"], {"pixels": pixels})
        for each in (model, whole)
    )
    assert 0 < np.abs(half - exact).max() < 2e-3 * np.abs(exact).max()


@pytest.fixture
def page_cache(tmp_path: Path) -> Iterator[None]:
    with runtime_cached(tmp_path / "cache"):
        yield


def part(page: str, name: str) -> bytes:
    [text] = re.findall(rf'<script id="{name}" type="text/plain">([^<]+)</script>', page)
    return gzip.decompress(base64.b64decode(text))


@pytest.mark.usefixtures("page_cache")
@pytest.mark.parametrize("precision", ["fp16", pytest.param("int8", marks=pytest.mark.slow)])
def test_a_page_has_everything_inside(
    precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "net.safetensors", tmp_path / "insects.html"
    bundle().save(source)
    more = "--precision int8 --calibrate digits --agree-on digits".split() * (precision == "int8")
    assert main(["export", str(source), str(target), "--to", "web", *more]) == 0
    assert f"insects.html: web, {precision}" in capsys.readouterr().out
    page = target.read_text("utf-8")
    # Markup and style load nothing; the policy forbids it to scripts.
    head, _, rest = page.partition('<script id="ort-script"')
    assert re.findall(r"(?:src|href)\s*=\s*(\S+)|url\(|@import", head) == ['"data:,">']
    assert 'content="default-src &#39;none&#39;; ' in page
    [facts] = re.findall(r'<script id="facts" type="application/json">(.*?)</script>', page)
    told = json.loads(facts)
    assert told["classes"] == list(CLASSES)
    assert told["name"] == "insects"
    assert told["precision"] == precision
    script = re.search(r"<script>(.*?)</script>\n</body>", rest, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in page
    with tarfile.open(RUNTIME) as archive:
        for name, path in web_runtime.FILES.items():
            member = archive.extractfile(path)
            assert member is not None
            assert part(page, name) == member.read()
    model = onnx.load_from_string(part(page, "model"))
    assert [output.name for output in model.graph.output] == ["logits", CAMS]
    types = {array.data_type for array in model.graph.initializer if np.prod(array.dims) >= 1024}
    assert types == {onnx.TensorProto.INT8 if precision == "int8" else onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"target": "net.onnx"}, "must end in .html"),
        ({"with_preprocessing": True}, "web takes one image"),
        ({"dynamic_batch": True}, "web takes one image"),
    ],
)
def test_what_a_page_cannot_be(options: dict[str, object], reason: str, tmp_path: Path) -> None:
    target = tmp_path / str(options.pop("target", "net.html"))
    with pytest.raises(InputError, match=reason):
        resnetkit.export(bundle(), target, to="web", **options)
    assert not target.exists()


def test_a_network_without_classes_is_refused(tmp_path: Path) -> None:
    made = bundle()
    module = resnetkit.build("resnet20", num_classes=None)
    plain = resnetkit.Bundle.from_module(module, preprocess=made.preprocess)
    with pytest.raises(InputError, match="requires a network with classes"):
        resnetkit.export(plain, tmp_path / "net.html", to="web")


@contextmanager
def serving_files(files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """An address with these files, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(files[self.path])))
            self.end_headers()
            self.wfile.write(files[self.path])

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with http_serving(Handler) as url:
        yield url, asked


class TestRuntime:
    """onnxruntime-web from a registry."""

    def test_is_the_version_that_the_page_is_typed_with(self) -> None:
        package = json.loads((RUNTIME.parents[2] / "package.json").read_text())
        assert package["devDependencies"]["onnxruntime-web"] == web_runtime.VERSION

    NAME = f"onnxruntime-web-{web_runtime.VERSION}.tgz"

    @pytest.fixture(autouse=True)
    def _empty_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def test_is_fetched_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        files = {f"/onnxruntime-web/-/{self.NAME}": RUNTIME.read_bytes()}
        with serving_files(files) as (url, asked):
            monkeypatch.setenv(web_runtime.REGISTRY, url)
            first, second = web_runtime.runtime(), web_runtime.runtime()
        assert asked == list(files)
        assert first == second
        assert first["ort-wasm"][:4] == b"\0asm"

    def test_another_file_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = BytesIO()
        tarfile.open(fileobj=data, mode="w:gz").close()
        with serving_files({f"/onnxruntime-web/-/{self.NAME}": data.getvalue()}) as (url, _):
            monkeypatch.setenv(web_runtime.REGISTRY, url)
            with pytest.raises(InputError, match="nothing was kept"):
                web_runtime.runtime()

    def test_offline_says_where_to_put_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(InputError, match="place the file at") as caught:
            web_runtime.runtime()
        [place] = re.findall(r"place the file at (\S+),", str(caught.value))
        shutil.copy(RUNTIME, place)
        assert web_runtime.runtime()["ort-script"].startswith(b"/*!")

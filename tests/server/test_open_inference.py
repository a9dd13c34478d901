"""The Open Inference Protocol, asked by Triton's clients and curl: the answers of the engine."""

from __future__ import annotations

import base64
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from inference_clients import (
    BODIES,
    CLASSES,
    Served,
    free_port,
    image_input,
    one,
    pixels_input,
    running,
)
from test_application import TestClient, served_of
from tritonclient.utils import InferenceServerException

import resnetkit
from resnetkit.exporters.exporter import export
from resnetkit.inference.engines.selection import open_engine
from resnetkit.server.application import create_app
from resnetkit.server.open_inference import inputs_of, outputs_of
from resnetkit.server.served_model import Limits


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, served: Served) -> tuple[ModuleType, Any]:
    return served.clients[request.param]


def test_metadata(client: tuple[ModuleType, Any]) -> None:
    kind, remote = client
    flags = {"as_json": True} if kind is tritonclient.grpc else {}
    assert remote.is_server_live()
    assert remote.is_server_ready()
    assert remote.is_model_ready("animals")
    assert remote.is_model_ready("other", "2")
    assert not remote.is_model_ready("nothing") if kind is tritonclient.http else True
    about = remote.get_server_metadata(**flags)
    assert (about["name"], about["version"]) == ("resnetkit", resnetkit.__version__)
    assert {"binary_tensor_data", "classification"} <= set(about["extensions"])
    index = remote.get_model_repository_index(**flags)
    found = index["models"] if flags else index
    assert [(one["name"], one["version"], one["state"]) for one in found] == [
        ("animals", "1", "READY"), ("other", "1", "READY"), ("other", "2", "READY")
    ]  # fmt: skip
    for version in ("", "1"):
        told = remote.get_model_metadata("other", version, **flags)
        assert told["versions"] == ["1", "2"]
    told = remote.get_model_metadata("animals", **flags)
    assert (told["name"], told["platform"]) == ("animals", "resnetkit_torch")
    shapes = {
        one["name"]: (one["datatype"], [int(size) for size in one["shape"]])
        for one in told["inputs"] + told["outputs"]
    }
    assert shapes == {
        "image": ("BYTES", [-1]),
        "pixels": ("UINT8", [-1, 32, 32, 3]),
        "probabilities": ("FP32", [-1, 4]),
        "logits": ("FP32", [-1, 4]),
        "labels": ("BYTES", [-1, -1]),
        "scores": ("FP32", [-1, -1]),
        "embeddings": ("FP32", [-1, 64]),
    }


@pytest.mark.parametrize("given", ["image", "pixels"])
def test_answers_are_those_of_the_engine(
    client: tuple[ModuleType, Any], served: Served, given: str
) -> None:
    kind, remote = client
    tensor = image_input(kind) if given == "image" else pixels_input(kind, served.pixels)
    names = ["embeddings", "logits", "labels", "scores", "probabilities"]
    outputs = [kind.InferRequestedOutput(name) for name in names]
    found = remote.infer(
        "animals", [tensor], outputs=outputs, request_id="seven", parameters={"topk": 3}
    )
    for name in ("embeddings", "logits", "probabilities"):
        np.testing.assert_allclose(found.as_numpy(name), getattr(served, name), atol=1e-5)
    best = served.ranks[:, :3]
    assert found.as_numpy("labels").tolist() == [
        [CLASSES[number].encode() for number in row] for row in best
    ]
    scores = np.take_along_axis(served.probabilities, best, 1)
    np.testing.assert_allclose(found.as_numpy("scores"), scores, atol=1e-5)
    response = found.get_response()
    told = response if isinstance(response, dict) else {
        key: getattr(response, key) for key in ("id", "model_name", "model_version")
    }  # fmt: skip
    assert (told["id"], told["model_name"], told["model_version"]) == ("seven", "animals", "1")


def test_defaults(client: tuple[ModuleType, Any], served: Served) -> None:
    """Without outputs, probabilities; without topk, that of the server."""
    kind, remote = client
    found = remote.infer("animals", [image_input(kind)])
    np.testing.assert_allclose(found.as_numpy("probabilities"), served.probabilities, atol=1e-5)
    assert found.as_numpy("logits") is None
    outputs = [kind.InferRequestedOutput("labels")]
    assert remote.infer("animals", [image_input(kind)], outputs=outputs).as_numpy(
        "labels"
    ).shape == (3, 2)


def test_versions(client: tuple[ModuleType, Any]) -> None:
    kind, remote = client
    outputs = [kind.InferRequestedOutput("labels")]
    for version, best in (("1", b"dog"), ("2", b"owl"), ("", b"owl")):
        found = remote.infer("other", [image_input(kind)], version, outputs, parameters={"topk": 1})
        assert found.as_numpy("labels").tolist() == [[best]] * 3


@pytest.mark.parametrize("name", ["logits", "probabilities"])
def test_classification(client: tuple[ModuleType, Any], served: Served, name: str) -> None:
    kind, remote = client
    outputs = [kind.InferRequestedOutput(name, class_count=3)]
    found = remote.infer("animals", [image_input(kind)], outputs=outputs).as_numpy(name)
    assert found.shape == (3, 3)
    for row, texts in enumerate(found):
        for rank, text in enumerate(texts):
            value, number, label = text.decode().split(":")
            assert int(number) == served.ranks[row, rank]
            assert label == CLASSES[int(number)]
            assert float(value) == pytest.approx(getattr(served, name)[row, int(number)], abs=1e-5)


def test_json_tensors(served: Served) -> None:
    """Without binary data: base64, flat and nested lists, and text in the response."""
    kind, remote = served.clients["http"]
    texts = np.array([base64.b64encode(body) for body in BODIES], np.object_)
    image = kind.InferInput("image", [3, 1], "BYTES")
    image.set_data_from_numpy(texts[:, None], binary_data=False)
    flat = kind.InferInput("pixels", [3, 32, 32, 3], "UINT8")
    flat.set_data_from_numpy(served.pixels, binary_data=False)
    outputs = [kind.InferRequestedOutput(n, binary_data=False) for n in ("logits", "labels")]
    for tensor in (image, flat):
        found = remote.infer("animals", [tensor], outputs=outputs)
        np.testing.assert_allclose(found.as_numpy("logits"), served.logits, atol=1e-5)
        assert found.as_numpy("labels")[0, 0] == CLASSES[served.ranks[0, 0]]


def test_curl_sends_a_file_as_it_is(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(BODIES[0])
    url = f"{served.url}/v2/models/animals/infer"
    header = "Inference-Header-Content-Length: 0"
    command = ["curl", "-s", "-H", header, "--data-binary", f"@{tmp_path / 'a.jpg'}", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    [output] = json.loads(done.stdout)["outputs"]
    assert (output["name"], output["shape"]) == ("probabilities", [1, 4])
    assert output["data"] == pytest.approx(served.probabilities[0].tolist(), abs=1e-5)


def test_the_page(bundle_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                  capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """The command and the program of docs/serve.md."""
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()
    section = page.partition("## Open Inference Protocol\n")[2].partition("\n## ")[0]
    blocks = dict(re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", section))
    model = replace(
        served_of(resnetkit.load(bundle_file)),
        name="flowers",
        classes=("rose", "tulip", "lily", "x"),
    )
    monkeypatch.chdir(tmp_path)
    Path("picture.jpg").write_bytes(BODIES[0])
    address = f"127.0.0.1:{free_port()}"
    with running(create_app(model, grpc_address=address)) as host:
        ports = {"127.0.0.1:8000": host, "127.0.0.1:8001": address}
        for old, new in ports.items():
            blocks = {kind: text.replace(old, new) for kind, text in blocks.items()}
        command = ["curl", "-s", *shlex.split(blocks["sh"].splitlines()[1])[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        exec(compile(blocks["py"], "serve.md", "exec"), {})
    found, shown = json.loads(done.stdout), json.loads(blocks["json"])
    assert found.keys() == shown.keys()
    assert found["outputs"][0].keys() == shown["outputs"][0].keys()
    assert found["model_name"] == shown["model_name"]
    probabilities = found["outputs"][0]["data"]
    best = model.classes[int(np.argmax(probabilities))]
    http, remote = capsys.readouterr().out.splitlines()
    assert http == remote
    assert http.startswith(f"[[b'{best}' b'")
    for table, known in (("input, one of", inputs_of(model)), ("output", outputs_of(model))):
        rows = section.partition(f"| {table} |")[2].partition("\n\n")[0]
        names = re.findall(r"`(\w+)`", "".join(re.findall(r"(?m)^\| (.*?) \|", rows)))
        assert set(names) - {"embeddings"} == set(known)


BAD: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "unknown model": (
        "no model 'nothing' is served; it must be one of animals, other",
        lambda _: {"model_name": "nothing"},
    ),
    "unknown version": (
        "animals has no version '7'; it must be one of 1",
        lambda _: {"model_version": "7"},
    ),
    "unknown input": (
        "the input is 'images'; it must be image or pixels",
        lambda kind: {"inputs": [one(kind, name="images")]},
    ),
    "two inputs": (
        "the request has 2 inputs; give one: image or pixels",
        lambda kind: {"inputs": [one(kind), one(kind)]},
    ),
    "datatype": (
        "the input image has datatype 'UINT8'; it must be BYTES",
        lambda kind: {"inputs": [one(kind, shape=[1, 2], datatype="UINT8")]},
    ),
    "image shape": (
        "the input image has shape [1, 1, 1]; it must be [N] or [N, 1]",
        lambda kind: {"inputs": [one(kind, shape=[1, 1, 1])]},
    ),
    "pixel shape": (
        "the input pixels has shape [1, 3, 32, 32]; it must be [N, 32, 32, 3]",
        lambda kind: {"inputs": [one(kind, name="pixels", shape=[1, 3, 32, 32], datatype="UINT8")]},
    ),
    "many images": (
        "the input image has 7 images; it must have 1 to 6",
        lambda kind: {"inputs": [image_input(kind, [b"x"] * 7)]},
    ),
    "unknown output": (
        "the output is 'softmax'; it must be one of probabilities, logits, labels, scores",
        lambda kind: {"outputs": [kind.InferRequestedOutput("softmax")]},
    ),
    "output twice": (
        "an output is requested twice",
        lambda kind: {"outputs": [kind.InferRequestedOutput("logits")] * 2},
    ),
    "no embedder": (
        "the output is 'embeddings'; it must be one of",
        lambda kind: {
            "model_name": "other", "outputs": [kind.InferRequestedOutput("embeddings")]
        },
    ),
    "topk": (
        "topk is 5; it must be a whole number from 1 to 4",
        lambda _: {"parameters": {"topk": 5}},
    ),
    "topk as text": (
        "topk is 'all'; it must be a whole number from 1 to 4",
        lambda _: {"parameters": {"topk": "all"}},
    ),
    "classification": (
        "classification is 9; it must be a whole number from 1 to 4",
        lambda kind: {"outputs": [kind.InferRequestedOutput("logits", class_count=9)]},
    ),
    "classification of scores": (
        "the output scores has classification; only probabilities and logits take it",
        lambda kind: {"outputs": [kind.InferRequestedOutput("scores", class_count=1)]},
    ),
    "unreadable": (
        "image 1: not an image, or of an unsupported format; image 2: ",
        lambda kind: {"inputs": [image_input(kind, [BODIES[0], b"no image", BODIES[1][:300]])]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_requests(client: tuple[ModuleType, Any], case: str) -> None:
    kind, remote = client
    line, changes = BAD[case]
    given = {"model_name": "animals", "inputs": [one(kind)], **changes(kind)}
    with pytest.raises(InferenceServerException) as raised:
        remote.infer(**given)
    assert line in raised.value.message()
    missing = case in ("unknown model", "unknown version")
    status = {True: ("404", "StatusCode.NOT_FOUND"), False: ("400", "StatusCode.INVALID_ARGUMENT")}
    assert raised.value.status() in status[missing]
    assert remote.infer("animals", [one(kind)]).as_numpy("probabilities") is not None


def test_shared_memory_is_refused(client: tuple[ModuleType, Any]) -> None:
    kind, remote = client
    tensor = kind.InferInput("image", [1], "BYTES")
    tensor.set_shared_memory("region", 100)
    with pytest.raises(InferenceServerException, match="input image is in shared memory"):
        remote.infer("animals", [tensor])
    output = kind.InferRequestedOutput("logits")
    output.set_shared_memory("region", 100)
    with pytest.raises(InferenceServerException, match="output logits is in shared memory"):
        remote.infer("animals", [one(kind)], outputs=[output])


def test_messages_that_are_too_large(client: tuple[ModuleType, Any]) -> None:
    kind, remote = client
    with pytest.raises(InferenceServerException) as raised:
        remote.infer("animals", [image_input(kind, [b"x" * 300_000])])
    assert raised.value.status() in ("413", "StatusCode.RESOURCE_EXHAUSTED")


def test_a_full_queue(bundle_file: Path) -> None:
    """More images than may wait get 503 with Retry-After, or UNAVAILABLE."""
    model = served_of(resnetkit.load(bundle_file))
    address = f"127.0.0.1:{free_port()}"
    limits = Limits(max_batch_size=1, max_queue_size=1)
    with TestClient(create_app(model, limits, grpc_address=address)) as client:
        encoded = [base64.b64encode(body).decode() for body in BODIES]
        image = {"name": "image", "datatype": "BYTES", "shape": [3], "data": encoded}
        response = client.post("/v2/models/animals/infer", json={"inputs": [image]})
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert response.json() == {"error": "0 images are already waiting; try again"}
        with tritonclient.grpc.InferenceServerClient(address) as remote:
            with pytest.raises(InferenceServerException) as raised:
                remote.infer("animals", [image_input(tritonclient.grpc)])
            assert raised.value.status() == "StatusCode.UNAVAILABLE"
            assert remote.infer("animals", [one(tritonclient.grpc)])
        metrics = client.get("/metrics").text
    counted = 'resnetkit_requests_total{path="/inference.GRPCInferenceService/ModelInfer",status='
    assert f'{counted}"503"}} 1.0' in metrics
    assert f'{counted}"200"}} 1.0' in metrics
    assert 'path="/v2/models/{name}/infer",status="503"} 1.0' in metrics


def test_it_is_not_ready_before_the_models_are(bundle_file: Path) -> None:
    client = TestClient(create_app(served_of(resnetkit.load(bundle_file))))  # is not entered
    assert client.get("/v2/health/live").status_code == 200
    for path in ("/v2/health/ready", "/v2/models/animals/ready"):
        response = client.get(path)
        assert response.status_code == 503
        assert response.json()["ready"] is False
    header = {"Inference-Header-Content-Length": "0"}
    response = client.post("/v2/models/animals/infer", content=BODIES[0], headers=header)
    assert response.status_code == 503
    assert client.post("/v2/repository/index").json()[0]["state"] == "UNAVAILABLE"


def test_engines_that_take_other_inputs(bundle_file: Path, tmp_path: Path) -> None:
    """Float pixels, and a graph that crops whole images itself."""
    bundle = resnetkit.load(bundle_file)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    floats = replace(
        served_of(bundle), name="floats", engine=open_engine(bundle, "torch", pixels="float32")
    )
    export(bundle_file, tmp_path / "cut.onnx", to="onnx", with_preprocessing=True)
    engine = open_engine(resnetkit.open_model(tmp_path / "cut.onnx"))
    crops = replace(served_of(bundle), name="crops", engine=engine)
    given = {
        "floats": {"name": "pixels", "datatype": "FP32", "shape": [2, 32, 32, 3],
                   "data": pixels.tolist()},
        "crops": {"name": "image", "datatype": "BYTES", "shape": [1],
                  "data": [base64.b64encode(BODIES[0]).decode()]},
    }  # fmt: skip
    with TestClient(create_app([floats, crops])) as client:
        for name, tensor in given.items():
            [told] = client.get(f"/v2/models/{name}").json()["inputs"]
            assert (told["name"], told["datatype"]) == (tensor["name"], tensor["datatype"])
            request = {"inputs": [tensor], "outputs": [{"name": "logits"}]}
            response = client.post(f"/v2/models/{name}/infer", json=request)
            assert response.status_code == 200, response.text
            [output] = response.json()["outputs"]
            if name == "floats":
                expected = floats.engine.answer(pixels).ravel().tolist()
                assert output["data"] == pytest.approx(expected, abs=1e-5)

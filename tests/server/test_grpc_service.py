"""gRPC: its own messages, health, limits and refusals, and `resnetkit serve --grpc-port`."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
from inference_clients import BODIES, CLASSES, Served, free_port, one
from test_application import TestClient, served_of
from test_serve import SERVE
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

import resnetkit
from resnetkit.cli.main import main
from resnetkit.errors import InputError
from resnetkit.server.access import Access
from resnetkit.server.application import create_app
from resnetkit.server.grpc_messages import described, messages
from resnetkit.server.served_model import Limits


def infer(address: str, request: service_pb2.ModelInferRequest) -> service_pb2.ModelInferResponse:
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            service_pb2.ModelInferRequest.SerializeToString,
            service_pb2.ModelInferResponse.FromString,
        )
        return call(request, timeout=60)


@pytest.mark.parametrize("given", ["image", "pixels"])
def test_typed_contents(served: Served, given: str) -> None:
    """As grpcurl sends them; the response has typed contents too."""
    request = service_pb2.ModelInferRequest(model_name="animals")
    tensor = request.inputs.add(name=given, datatype="BYTES", shape=[3])
    if given == "image":
        tensor.contents.bytes_contents.extend(BODIES)
    else:
        tensor.datatype, tensor.shape[:] = "UINT8", [3, 32, 32, 3]
        tensor.contents.uint_contents.extend(served.pixels.ravel().tolist())
    for name in ("logits", "labels"):
        request.outputs.add(name=name)
    response = infer(served.address, request)
    assert not response.raw_output_contents
    logits, labels = response.outputs
    found = np.array(logits.contents.fp32_contents).reshape(logits.shape)
    np.testing.assert_allclose(found, served.logits, atol=1e-5)
    assert labels.contents.bytes_contents[0].decode() == CLASSES[served.ranks[0, 0]]


def test_what_fails_inside_is_not_shown(bundle_file: Path, monkeypatch: Any, caplog: Any) -> None:
    model = served_of(resnetkit.load(bundle_file))

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(model.engine, "answer", broken)
    address = f"127.0.0.1:{free_port()}"
    with (
        TestClient(create_app(model, grpc_address=address)),
        tritonclient.grpc.InferenceServerClient(address) as remote,
        pytest.raises(InferenceServerException) as raised,
    ):
        remote.infer("animals", [one(tritonclient.grpc)])
    assert raised.value.status() == "StatusCode.INTERNAL"
    assert "secret" not in raised.value.message()
    assert "secret" in caplog.text


def test_the_address_of_grpc_is_taken(bundle_file: Path) -> None:
    model = served_of(resnetkit.load(bundle_file))

    async def start(address: str) -> None:
        app = create_app(model, grpc_address=address)
        async with app.router.lifespan_context(app):
            pass

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=f"cannot listen on {address}"):
            asyncio.run(start(address))


def test_raw_contents_that_do_not_belong_to_inputs(served: Served) -> None:
    request = service_pb2.ModelInferRequest(model_name="animals")
    request.inputs.add(name="pixels", datatype="UINT8", shape=[1, 32, 32, 3])
    request.raw_input_contents.extend([bytes(3072)] * 2)
    with pytest.raises(grpc.RpcError, match="2 raw_input_contents for 1 inputs; give one for each"):
        infer(served.address, request)
    del request.raw_input_contents[1:]
    request.inputs[0].contents.uint_contents.extend([0] * 3072)
    with pytest.raises(grpc.RpcError, match="'pixels' has contents and raw_input_contents"):
        infer(served.address, request)
    request.inputs[0].ClearField("contents")
    assert infer(served.address, request).raw_output_contents


def test_messages_of_too_many_parts(served: Served) -> None:
    """Each costs time, which others would wait for."""
    request = service_pb2.ModelInferRequest(model_name="animals")
    request.inputs.add(name="image", datatype="BYTES", shape=[1] * 1000)
    with pytest.raises(grpc.RpcError, match=r"has shape \[1, 1, 1, 1, 1, 1, 1, 1\]; it must be"):
        infer(served.address, request)
    for number in range(65):
        request.parameters[str(number)].bool_param = True
    with pytest.raises(grpc.RpcError, match="65 parameters; there are at most 64"):
        infer(served.address, request)
    for _ in range(65):
        request.outputs.add(name="logits")
    with pytest.raises(grpc.RpcError, match="65 outputs; a request has at most 64"):
        infer(served.address, request)


def test_the_calls_of_all_clients_together_are_bounded(
    bundle_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = served_of(resnetkit.load(bundle_file))
    began, may, answer = threading.Event(), threading.Event(), model.engine.answer

    def slow(*given: Any, **flags: Any) -> Any:
        began.set()
        assert may.wait(20)
        return answer(*given, **flags)

    monkeypatch.setattr(model.engine, "answer", slow)
    limits = Limits(max_body_bytes=5000, max_total_body_bytes=5000)
    address = f"127.0.0.1:{free_port()}"
    request = service_pb2.ModelInferRequest(model_name="animals")
    request.inputs.add(name="pixels", datatype="UINT8", shape=[1, 32, 32, 3])
    request.raw_input_contents.append(bytes(3072))
    app = create_app(model, limits, grpc_address=address)
    with TestClient(app), ThreadPoolExecutor(1) as other:
        first = other.submit(infer, address, request)
        try:
            assert began.wait(20)
            with pytest.raises(grpc.RpcError, match="5,000 bytes of other requests are already"):
                infer(address, request)
        finally:
            may.set()
        assert first.result(20).outputs
        assert infer(address, request).outputs


def test_ports_of_grpc_that_cannot_be_used(
    bundle_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for given, line in [
            ("0 --host 0.0.0.0", "--host is 0.0.0.0, so other machines can reach the server"),
            ("0 --host 0.0.0.0 --uds a", "--host is 0.0.0.0, so other machines can reach"),
            (port, f"127.0.0.1:{port}: address already in use; use another --host or --grpc-port"),
            ("99999", "--grpc-port is 99999; it must be from 0 to 65535"),
        ]:
            assert (
                main(["serve", str(bundle_file), "--port", "0", "--grpc-port", *given.split()]) == 2
            )
            told = capsys.readouterr().err
            assert line in told
            assert told.count("\n") == 1


def test_grpc_is_not_installed(
    bundle_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    assert main(["serve", str(bundle_file), "--port", "0", "--grpc-port", "0"]) == 2
    told = capsys.readouterr().err
    line = "gRPC requires grpc, which is not installed; pip install 'resnetkit[grpc]'"
    assert told == f"resnetkit: {line}\n"


def test_calls_need_keys_and_are_logged(
    bundle_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a key, a call gets the health of the server and nothing else."""
    model = served_of(resnetkit.load(bundle_file))
    access = Access(api_keys={"alice": "a" * 16}, log=True)
    address = f"127.0.0.1:{free_port()}"
    kind = tritonclient.grpc
    caplog.set_level("INFO", "resnetkit.access")
    with (
        TestClient(create_app(model, access=access, grpc_address=address)),
        kind.InferenceServerClient(address) as remote,
    ):
        assert remote.is_server_live()
        assert remote.is_server_ready()
        assert health(address, "") == 1

        def ask(**given: Any) -> Any:
            return remote.infer("animals", [one(kind)], **given)

        for method in (remote.get_server_metadata, ask):
            for headers, line in [
                ({}, "an API key is required"),
                ({"authorization": "Bearer other"}, "the API key is not known"),
            ]:
                with pytest.raises(InferenceServerException, match=line) as raised:
                    method(headers=headers)
                assert raised.value.status() == "StatusCode.UNAUTHENTICATED"
            assert method(headers={"authorization": f"Bearer {'a' * 16}"})
            assert method(headers={"x-api-key": "a" * 16})
    line = '127.0.0.1 alice "POST /inference.GRPCInferenceService/ModelInfer" 200'
    assert line in caplog.text


def test_calls_of_one_client_are_limited(
    bundle_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together with its requests over HTTP."""
    model = served_of(resnetkit.load(bundle_file))
    began, may, answer = threading.Event(), threading.Event(), model.engine.answer

    def slow(*given: Any, **flags: Any) -> Any:
        began.set()
        assert may.wait(20)
        return answer(*given, **flags)

    monkeypatch.setattr(model.engine, "answer", slow)
    address = f"127.0.0.1:{free_port()}"
    access = Access(max_requests_per_client=1)
    app = create_app(model, access=access, grpc_address=address)
    with (
        TestClient(app, client=("127.0.0.1", 1)) as client,
        tritonclient.grpc.InferenceServerClient(address) as remote,
        ThreadPoolExecutor(1) as other,
    ):
        first = other.submit(client.post, "/predict", content=BODIES[0])
        try:
            assert began.wait(20)
            with pytest.raises(InferenceServerException, match="the most for one client") as raised:
                remote.get_server_metadata()
            assert raised.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
            assert remote.is_server_ready()
        finally:
            may.set()
        assert first.result(20).status_code == 200
        assert remote.get_server_metadata()


def test_a_server_that_is_stopping(bundle_file: Path) -> None:
    """It answers its health, and that it is not ready."""
    address = f"127.0.0.1:{free_port()}"
    app = create_app(served_of(resnetkit.load(bundle_file)), grpc_address=address)
    with TestClient(app) as client, tritonclient.grpc.InferenceServerClient(address) as remote:
        assert client.get("/v2/health/ready").status_code == 200
        app.state.traffic.stopping = True
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/v2/health/live").status_code == 200
        assert remote.is_server_live()
        assert not remote.is_server_ready()
        assert health(address, "") == 2
        with pytest.raises(InferenceServerException, match="the server is stopping") as raised:
            remote.infer("animals", [one(tritonclient.grpc)])
        assert raised.value.status() == "StatusCode.UNAVAILABLE"


def test_the_paths_of_calls_are_no_pages(bundle_file: Path) -> None:
    app = create_app(
        served_of(resnetkit.load(bundle_file)), grpc_address=f"127.0.0.1:{free_port()}"
    )
    with TestClient(app) as client:
        for method in ("ServerLive", "ModelInfer"):
            response = client.post(f"/inference.GRPCInferenceService/{method}", content=b"")
            assert response.status_code == 404
        assert "inference.GRPC" not in client.get("/openapi.json").text


def health(address: str, service: str) -> int:
    known = messages("grpc_health")
    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            known["HealthCheckRequest"].SerializeToString,
            known["HealthCheckResponse"].FromString,
        )
        return check(known["HealthCheckRequest"](service=service)).status


def test_health_of_grpc(served: Served) -> None:
    for service in ("", "inference.GRPCInferenceService"):
        assert health(served.address, service) == 1
    with pytest.raises(grpc.RpcError, match="no service 'other'"):
        health(served.address, "other")


def test_messages_are_those_of_triton() -> None:
    """Every field has Triton's number, type and label; so has every method."""
    theirs = service_pb2.DESCRIPTOR

    def same(ours: Any, other: Any) -> None:
        for field in ours.fields:
            twin = other.fields_by_name[field.name]
            for key in ("number", "type", "is_repeated"):
                assert getattr(field, key) == getattr(twin, key), f"{ours.full_name}.{field.name}"
            for key in ("containing_oneof", "message_type"):
                mine, its = getattr(field, key), getattr(twin, key)
                assert (mine and mine.name) == (its and its.name)
        for nested in ours.nested_types:
            same(nested, other.nested_types_by_name[nested.name])

    found = messages("open_inference")
    assert len(found) == 16
    for name, message in found.items():
        same(message.DESCRIPTOR, theirs.message_types_by_name[name])
    [service] = described("open_inference").service
    for method in service.method:
        twin = theirs.services_by_name[service.name].methods_by_name[method.name]
        assert method.input_type == twin.input_type.name
        assert method.output_type == twin.output_type.name


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["", "workers"])
def test_the_command(bundle_file: Path, tmp_path: Path, workers: tuple[str, ...]) -> None:
    """`serve --grpc-port 0` says where it serves, asks for keys, and ends on SIGTERM."""
    keys = tmp_path / "keys"
    keys.write_text(f"alice:{'a' * 16}\n")
    keys.chmod(0o600)
    flags = ["--engine", "onnxruntime", "--batch-size", "2", "--port", "0", "--grpc-port", "0"]
    command = [*SERVE, str(bundle_file), *flags, "--api-key-file", str(keys), *workers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            address = re.search(r", gRPC on (127\.0\.0\.1:\d+)", line)[1]
            given = {"inputs": [one(tritonclient.grpc)], "client_timeout": 60}
            for _ in range(4):  # each over a connection of its own, to any worker
                with tritonclient.grpc.InferenceServerClient(address) as remote:
                    with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
                        remote.infer("animals", **given)
                    headers = {"authorization": f"Bearer {'a' * 16}"}
                    found = remote.infer("animals", **given, headers=headers)
                    assert found.as_numpy("probabilities").shape == (1, 4)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) in (-signal.SIGTERM, 128 + signal.SIGTERM)
        finally:
            process.kill()

"""Tensors of the Open Inference Protocol: what is written is read, and rubbish gets 400."""

from __future__ import annotations

import base64
import json
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_clients import LIMITS, free_port
from test_application import TestClient, jpeg, served_of

import resnetkit
from resnetkit.errors import InputError
from resnetkit.server.application import create_app
from resnetkit.server.grpc_messages import messages
from resnetkit.server.inference_tensors import Tensor, byte_strings, numbers
from resnetkit.server.open_inference_routes import HEADER, MAX_VALUES, read_request

URL = "/v2/models/animals/infer"
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)
FLOATS = st.floats(width=32, allow_nan=False)


@st.composite
def arrays(draw: Any) -> tuple[str, np.ndarray]:
    datatype, elements, dtype = draw(
        st.sampled_from([("UINT8", st.integers(0, 255), np.uint8), ("FP32", FLOATS, np.float32)])
    )
    shape = draw(SHAPES)
    count = int(np.prod(shape))
    flat = draw(st.lists(elements, min_size=count, max_size=count))
    return datatype, np.array(flat, dtype).reshape(shape)


@given(arrays())
def test_numbers_that_are_written_are_read(drawn: tuple[str, np.ndarray]) -> None:
    datatype, array = drawn
    tensor = Tensor(name="t", datatype=datatype, shape=array.shape, elements=array)
    for content in (tensor.to_bytes(), memoryview(tensor.to_bytes()), tensor.to_list(),
                    array.tolist(), json.loads(json.dumps(array.tolist()))):  # fmt: skip
        found = numbers(content, datatype, array.shape)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


@given(st.lists(st.binary(), min_size=1, max_size=5))
def test_bytes_that_are_written_are_read(elements: list[bytes]) -> None:
    shape = (len(elements),)
    tensor = Tensor(name="t", datatype="BYTES", shape=shape, elements=elements)
    assert byte_strings(tensor.to_bytes(), shape) == elements
    assert byte_strings(elements, shape) == elements
    assert byte_strings([base64.b64encode(one).decode() for one in elements], shape) == elements


@given(st.binary(max_size=40), st.integers(1, 4))
def test_other_bytes_are_refused(data: bytes, count: int) -> None:
    """What is read from any bytes is what would have been written."""
    try:
        found = byte_strings(data, (count,))
    except InputError:
        return
    assert Tensor(name="t", datatype="BYTES", shape=(count,), elements=found).to_bytes() == data


@pytest.mark.parametrize(
    ("datatype", "shape", "content", "line"),
    [
        ("UINT8", (2, 2), b"123", "3 bytes; UINT8 of shape [2, 2] has 4"),
        ("FP32", (2,), b"123", "3 bytes; FP32 of shape [2] has 8"),
        ("UINT8", (2,), [1, 256], "an element is not from 0 to 255"),
        ("UINT8", (2,), [1, -1], "an element is not from 0 to 255"),
        ("UINT8", (2,), [1, 10**5000], "an element is not from 0 to 255"),
        ("UINT8", (2,), [1, 2.0], "elements of type float; UINT8 does not take them"),
        ("UINT8", (2,), [True, None], "elements of type NoneType, bool; UINT8 does not"),
        ("UINT8", (2,), ["a", "b"], "elements of type str; UINT8 does not take them"),
        ("FP32", (1,), [10**5000], "an element is too large for FP32"),
        ("FP32", (2,), [1.5], "a list of 1 elements; shape [2] has 2"),
        ("UINT8", (2, 3), [[1, 2], [3, 4], [5, 6]], "a list of 3 x 2 elements; shape [2, 3]"),
        ("UINT8", (2, 2), [[1, 2], [3]], "lists of different lengths; give a flat list"),
        ("UINT8", (2, 2), [[], []], "a list of 2 x 0 elements; shape [2, 2] has 4"),
        ("UINT8", (2,), [[1], 2], "elements of type list; UINT8 does not take them"),
        ("UINT8", (2,), [{}, {}], "elements of type dict; UINT8 does not take them"),
        ("BYTES", (1,), ["no base64!"], "element 0 is 'no base64!'; it must be base64"),
        ("BYTES", (1,), ["\ud800"], "element 0 is '\\ud800'; it must be base64"),
        ("BYTES", (1,), [5], "elements of type int; BYTES does not take them"),
        ("BYTES", (1,), b"\xff\xff\xff\xffabc", "7 bytes end within element 0 of 1"),
        ("BYTES", (2,), b"\0\0\0\0\0", "5 bytes end within element 1 of 2"),
        ("BYTES", (1,), b"\0\0\0\0\0", "5 bytes; 1 elements end after 4"),
    ],
)
def test_contents_that_do_not_fit(
    datatype: Any, shape: tuple[int, ...], content: Any, line: str
) -> None:
    with pytest.raises(InputError) as raised:
        _ = (
            byte_strings(content, shape)
            if datatype == "BYTES"
            else numbers(content, datatype, shape)
        )
    assert line in str(raised.value)


@pytest.fixture(scope="module")
def servers(bundle_file: Path) -> Iterator[tuple[TestClient, grpc.Channel]]:
    model = served_of(resnetkit.load(bundle_file))
    address = f"127.0.0.1:{free_port()}"
    with (
        TestClient(create_app(model, LIMITS, grpc_address=address)) as client,
        grpc.insecure_channel(address) as channel,
    ):
        yield client, channel


def image(**changes: Any) -> dict[str, Any]:
    text = base64.b64encode(jpeg(0)).decode()
    return {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text], **changes}


def request_of(**changes: Any) -> bytes:
    return json.dumps({"inputs": [image()], **changes}).encode()


@pytest.mark.parametrize(
    ("body", "length", "line"),
    [
        (b"", None, "the request cannot be parsed"),
        (b"\xff\xfe", None, "the request cannot be parsed"),
        (b"[" * 100_000, None, "the request cannot be parsed"),
        (b"[]", None, "the request is a list; it must be an object"),
        (b"{}", None, "the request has 0 inputs; give one: image or pixels"),
        (b'{"inputs": {}}', None, "inputs is a dict; it must be a list of objects"),
        (b'{"inputs": [1]}', None, "inputs is a list; it must be a list of objects"),
        (b'{"inputs": [{}]}', None, "name is None; it must be a string"),
        (request_of(inputs=[image(shape=[-1])]), None, "the input 'image' has no valid shape"),
        (request_of(inputs=[image(shape=[True])]), None, "the input 'image' has no valid shape"),
        (request_of(inputs=[image(shape=[1] * 9)]), None, "the input 'image' has no valid shape"),
        (request_of(inputs=[image(shape=[])]), None, "the input image has shape []; it must be"),
        (request_of(inputs=[image(shape=[0])]), None, "has 0 images; it must have 1 to 6"),
        (request_of(inputs=[image(shape=[2**62])]), None, "images; it must have 1 to 6"),
        (request_of(inputs=[image(data="x")]), None, "has data 'x'; it must be a list"),
        (request_of(inputs=[image(parameters=[])]), None, "parameters is a list; it must be an"),
        (
            request_of(inputs=[image(parameters={"content_type": "str"})]),
            None,
            "the input image has content_type 'str'; it must be base64",
        ),
        (
            request_of(inputs=[image(parameters={"binary_data_size": 1})]),
            None,
            "has binary_data_size 1; it must be a whole number from 0 to 0, the bytes that follow",
        ),
        (
            request_of(inputs=[image(parameters={"binary_data_size": 0})]),
            None,
            "the input 'image' has both data and binary data; give one",
        ),
        (request_of(outputs=[{"name": 5}]), None, "name is 5; it must be a string"),
        (
            request_of(outputs=[{"name": "logits", "parameters": {"binary_data": 1}}]),
            None,
            "binary_data is 1; it must be true or false",
        ),
        (request_of(outputs=[{"name": "logits"}] * 65), None, "65 outputs; a request has at most"),
        (request_of(id=7), None, "id is 7; it must be a string"),
        (request_of(id="\ud800", parameters={"topk": 0}, outputs=[{"name": "labels"}]), None,
         "topk is 0; it must be a whole number from 1 to 4"),
        (b"{}", "3", "Inference-Header-Content-Length is '3'; it must be the length of the JSON"),
        (b"{}", "-1", "Inference-Header-Content-Length is '-1'"),
        (b"{}", "9" * 5000, "Inference-Header-Content-Length is '999"),
        (request_of() + b"more", str(len(request_of())), "4 bytes follow the inputs"),
        (b"", "0", "image 0: "),
    ],
)  # fmt: skip
def test_invalid_requests(
    servers: tuple[TestClient, Any], body: bytes, length: str | None, line: str
) -> None:
    client, _ = servers
    headers = {} if length is None else {HEADER: length}
    response = client.post(URL, content=body, headers=headers)
    assert response.status_code == 400, response.text
    told = response.json()["error"]
    assert line in told
    assert "\n" not in told
    assert len(told) < 300


def test_an_id_is_any_text(servers: tuple[TestClient, Any]) -> None:
    client, _ = servers
    for name in ("\ud800", "é\n\0", ""):
        response = client.post(URL, content=request_of(id=name))
        assert response.status_code == 200
        assert response.json().get("id", "") == name


def test_what_is_parsed_is_bounded() -> None:
    """JSON that takes much more memory than its text is refused before it is parsed."""
    body = b'{"inputs": [' + b"[]," * MAX_VALUES
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=f"more than {MAX_VALUES:,} values"):
            read_request(body, None)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(body)
    finally:
        tracemalloc.stop()


#: Values of JSON, often with the protocol's words.
WORDS = st.sampled_from(
    "name datatype shape data parameters inputs outputs id image pixels logits labels BYTES UINT8 "
    "FP32 topk classification binary_data binary_data_size binary_data_output content_type".split()
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 300) | st.floats() | WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=20,
)
TENSORS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["image", "pixels"]) | VALUES,
        "datatype": st.sampled_from(["BYTES", "UINT8"]) | VALUES,
        "shape": st.sampled_from([[1], [2], [1, 32, 32, 3]]) | VALUES,
    },
    optional={"data": VALUES | st.just([0] * 3072), "parameters": VALUES},
)
OUTPUTS = st.fixed_dictionaries(
    {"name": st.sampled_from(["logits", "labels"]) | VALUES}, optional={"parameters": VALUES}
)
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=2) | VALUES},
    optional={"outputs": st.lists(OUTPUTS, max_size=2) | VALUES, "parameters": VALUES,
              "id": VALUES},
)  # fmt: skip


@settings(max_examples=300)
@given(REQUESTS, st.binary(max_size=20), st.booleans())
def test_rubbish_gets_400(
    servers: tuple[TestClient, Any], drawn: Any, binary: bytes, behind: bool
) -> None:
    client, _ = servers
    document = json.dumps(drawn).encode()
    headers = {HEADER: str(len(document))} if behind else {}
    response = client.post(URL, content=document + binary, headers=headers)
    assert response.status_code in (200, 400), response.text
    assert response.status_code == 200 or isinstance(response.json()["error"], str)


@given(st.binary(max_size=200), st.none() | st.text("0123456789 -+e", max_size=6))
def test_other_bodies_get_400(
    servers: tuple[TestClient, Any], body: bytes, length: str | None
) -> None:
    client, _ = servers
    headers = {} if length is None else {HEADER: length}
    assert client.post(URL, content=body, headers=headers).status_code == 400


INVALID = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


def status(channel: grpc.Channel, body: bytes) -> grpc.StatusCode:
    try:
        channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(body, timeout=60)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@given(st.binary(max_size=60))
def test_other_messages_are_invalid(servers: tuple[Any, grpc.Channel], body: bytes) -> None:
    assert status(servers[1], body) in INVALID


@settings(max_examples=200)
@given(st.data())
def test_changed_messages_are_invalid(servers: tuple[Any, grpc.Channel], data: Any) -> None:
    """A valid message of which some bytes are changed."""
    request = messages("open_inference")["ModelInferRequest"](model_name="animals", id="a")
    request.inputs.add(name="pixels", datatype="UINT8", shape=[1, 32, 32, 3])
    request.outputs.add(name="labels").parameters["a"].int64_param = 3
    request.parameters["topk"].int64_param = 2
    if data.draw(st.booleans()):
        request.raw_input_contents.append(bytes(3072))
    else:
        request.inputs[0].contents.uint_contents.extend([7] * 3072)
    assert status(servers[1], request.SerializeToString()) is grpc.StatusCode.OK
    body = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, 120))] = data.draw(st.integers(0, 255))
    assert status(servers[1], bytes(body)) in (*INVALID, grpc.StatusCode.OK)


def test_a_length_prefix_that_lies(servers: tuple[TestClient, Any]) -> None:
    client, _ = servers
    rest = struct.pack("<I", 2**32 - 1) + b"abc"
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1],
              "parameters": {"binary_data_size": len(rest)}}  # fmt: skip
    document = json.dumps({"inputs": [tensor]}).encode()
    response = client.post(URL, content=document + rest, headers={HEADER: str(len(document))})
    assert response.status_code == 400
    assert "7 bytes end within element 0 of 1" in response.json()["error"]

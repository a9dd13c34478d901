"""Servers of S3 (moto's) and of Google Cloud Storage in processes of their own, and a proxy that
does what bad networks do."""

from __future__ import annotations

import http.client
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest

from http_serving import http_serving

SECRET = "a-secret-of-the-tests"
SETTINGS = {
    "AWS_ACCESS_KEY_ID": "a-key-of-the-tests",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def _serving(port: int, *command: str, **environment: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@contextmanager
def s3_serving(**environment: str) -> Iterator[str]:
    """The address of a server, which runs as long as the block lasts."""
    port = free_port()
    with _serving(port, "moto.server", "-p", str(port), **environment) as address:
        yield address


@contextmanager
def gcs_serving(bucket: str) -> Iterator[str]:
    """The same for Google Cloud Storage, with one bucket."""
    port = free_port()
    words = ("start", "--in-memory", "--host", "127.0.0.1", "--port", str(port))
    with _serving(port, "gcp_storage_emulator", *words, "--default-bucket", bucket) as address:
        yield address


def use(patch: pytest.MonkeyPatch, address: str) -> None:
    """Point botocore at a server."""
    patch.setenv("AWS_ENDPOINT_URL", address)
    for name, value in SETTINGS.items():
        patch.setenv(name, value)


def make_bucket(address: str, name: str) -> None:
    with _client(address) as client:
        client.create_bucket(Bucket=name)


def put_object(bucket: str, key: str, content: bytes) -> None:
    """What fsspec does not write: keys that end with a slash, or have two."""
    with _client(os.environ["AWS_ENDPOINT_URL"]) as client:
        client.put_object(Bucket=bucket, Key=key, Body=content)


def delete_object(bucket: str, key: str) -> None:
    with _client(os.environ["AWS_ENDPOINT_URL"]) as client:
        client.delete_object(Bucket=bucket, Key=key)


@contextmanager
def _client(address: str) -> Iterator[Any]:
    session = boto3.Session(SETTINGS["AWS_ACCESS_KEY_ID"], SECRET, region_name="us-east-1")
    client = session.client("s3", endpoint_url=address)
    yield client
    client.close()


class Faults:
    """What to do to the next requests: ``next_faults`` are used one by one by requests whose path
    has ``on`` in it; ``always`` by all of those without one."""

    def __init__(self) -> None:
        self.on = ""
        self.methods: tuple[str, ...] = ("GET",)
        self.next_faults: list[str] = []
        self.always = ""
        self.requests: list[tuple[str, str, str]] = []
        self.used: list[str] = []
        self._lock = threading.Lock()

    def of(self, method: str, path: str, ranged: str) -> str:
        with self._lock:
            self.requests.append((method, path, ranged))
            if method not in self.methods or self.on not in path:
                return ""
            fault = self.next_faults.pop(0) if self.next_faults else self.always
            if fault:
                self.used.append(fault)
            return fault


@contextmanager
def faulty(server: str, faults: Faults) -> Iterator[str]:
    """The address of a proxy of ``server``."""
    target = urlsplit(server).netloc

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None: ...

        def _forward(self) -> None:
            fault = faults.of(self.command, self.path, self.headers.get("Range", ""))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if fault == "reset":
                self._reset()
                return
            if fault == "slow":
                time.sleep(1.5)
            if fault == "silent":
                time.sleep(20)
                self._reset()
                return
            if fault.isdigit():
                self.send_response(int(fault))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            connection = http.client.HTTPConnection(target, timeout=30)
            headers = {key: value for key, value in self.headers.items() if key != "Host"}
            connection.request(self.command, self.path, body, {**headers, "Host": target})
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            if fault == "wrong" and content:
                content = content[:-600] + bytes(600) if len(content) > 600 else bytes(len(content))
            length = answer.headers.get("Content-Length") or str(len(content))
            if fault == "short":
                content = content[: len(content) // 2]
                length = str(len(content))
            self.send_response(answer.status)
            for key, value in answer.headers.items():
                if key.lower() not in ("content-length", "connection", "transfer-encoding"):
                    self.send_header(key, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command == "HEAD":
                return
            if fault == "half":
                self.wfile.write(content[: len(content) // 2])
                self._reset()
                return
            with suppress(ConnectionError):  # the client was killed
                self.wfile.write(content)

        def _reset(self) -> None:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            self.connection.close()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward  # noqa: N815

    with http_serving(Proxy) as address:
        yield address

"""`resnetkit` in processes that can be killed, without importing torch for each of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_SERVER = """
import json, os, resource, sys, traceback
import resnetkit.hub.conversion, resnetkit.training.run, resnetkit.report.plots
import resnetkit.report.console.training
import resnetkit.inference.engines.selection, resnetkit.exporters.exporter
import timm, torchvision
import onnx, onnxruntime, openvino
from resnetkit.cli.main import main
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 99
        try:
            for number, path in enumerate((os.devnull, order["stdout"], order["stderr"])):
                os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
            if order["folder"]:
                os.chdir(order["folder"])
            os.environ.update(order["environment"])
            if order["limit"]:
                resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], order["limit"]))
            code = main(order["words"])
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forks:
    """One process at a time, forked from one that has imported everything, but used nothing."""

    def __init__(self, folder: Path) -> None:
        self._out, self._err = folder / "stdout", folder / "stderr"
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        )

    def __enter__(self) -> Forks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def start(
        self,
        *words: object,
        limit: int = 0,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> int:
        """Begin `resnetkit WORDS` in ``folder``, with files of ``limit`` bytes at most; returns the
        process's number."""
        order = {
            "words": [str(word) for word in words],
            "stdout": str(self._out),
            "stderr": str(self._err),
            "limit": limit,
            "folder": str(folder or ""),
            "environment": dict(environment or {}),
        }
        assert self._server.stdin is not None
        print(json.dumps(order), file=self._server.stdin, flush=True)
        return self._number()

    def end(self) -> int:
        """Wait for it: its exit code, or minus the signal that has ended it."""
        return self._number()

    def kill(self, process: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to it; it may have ended by itself."""
        with suppress(ProcessLookupError):
            os.kill(process, number)

    def run(
        self,
        *words: object,
        limit: int = 0,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> int:
        """Run to the end."""
        self.start(*words, limit=limit, folder=folder, environment=environment)
        return self.end()

    @property
    def printed(self) -> str:
        """What it printed on stdout."""
        return self._out.read_text()

    @property
    def errors(self) -> str:
        """What it printed on stderr."""
        return self._err.read_text()

    def _number(self) -> int:
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())

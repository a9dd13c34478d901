"""What Tab writes, in a real bash."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


def completed(typed: str, folder: Path) -> str:
    """The line after Tab was typed twice."""
    controller, terminal = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"], cwd=folder, stdin=terminal, stdout=terminal,
        stderr=terminal, start_new_session=True, close_fds=True,
        env={"PATH": f"{BIN}:{os.environ['PATH']}", "PS1": "> ", "TERM": "dumb", "COLUMNS": "300"},
    )  # fmt: skip
    os.close(terminal)

    def until(text: str) -> str:
        found, end = "", time.monotonic() + 60
        while text not in found and time.monotonic() < end:
            if select.select([controller], [], [], 0.1)[0]:
                found += os.read(controller, 65536).decode()
        assert text in found, found
        return found

    try:
        script = subprocess.check_output([BIN / "register-python-argcomplete", "resnetkit"])
        (folder / "completion.sh").write_bytes(script)
        os.write(controller, b"bind 'set enable-bracketed-paste off'; . ./completion.sh; "
                 b"echo re''ady\n")  # fmt: skip
        until("ready")
        os.write(controller, f"{typed}\t\t".encode())
        time.sleep(0.1)
        os.write(controller, b"\x01: <\x05>\n")  # the line so far as an argument of `:`
        return until(">\r\n")
    finally:
        shell.kill()
        shell.wait()
        os.close(controller)


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("resnetkit expl", "explain "),
        ("resnetkit explain resnet50_no", "resnet50_notes "),
        ("resnetkit explain net.s", "net.safetensors "),
        ("resnetkit explain resnet18 --format sv", "svg "),
        ("resnetkit compare resnet50 seresnet1", "seresnet152d"),
        ("resnetkit train pictures --model test_res", "test_resnet "),
        ("resnetkit predict net.s", "net.safetensors "),
        ("resnetkit export net.safetensors out --to openv", "openvino "),
    ],
)
def test_tab(typed: str, wanted: str, tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").touch()
    assert re.search(re.escape(wanted), completed(typed, tmp_path))

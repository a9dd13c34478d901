"""Parameters in the library's messages, flags in the command line's."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import resnetkit
from resnetkit.cli.main import main
from resnetkit.cli.messages import in_flags
from resnetkit.errors import InputError

ROOT = Path(resnetkit.__file__).parent
FLAG = re.compile(r"(?<![\w-])--[a-z]|`resnetkit |resnetkit [a-z]+ --")


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_error_of_the_library_speaks_of_flags_or_commands(path: Path) -> None:
    if path.is_relative_to(ROOT / "cli"):
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise):
            texts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
            found = [text for text in texts if isinstance(text, str) and FLAG.search(text)]
            assert not found, f"line {node.lineno}"


@pytest.mark.parametrize(
    ("text", "field", "command"),
    [
        ("batch_size is 0", "batch_size", "--batch-size is 0"),
        ("validation=0.5 and test=0.5 leave none", ("validation", "test"),
         "--validation 0.5 and --test 0.5 leave none"),
        ("choose ema=True or ema=False", "ema", "choose --ema or --no-ema"),
        ("say norm='group'", "norm", "say --norm group"),
        ("e.g. drop=['a.', 'b.']", "drop", "e.g. --drop a. --drop b."),
        ("that of pretrained; leave model out", ("pretrained", "model"),
         "that of --from; leave --model out"),
        ("go on with resnetkit.resume('runs/a b')", (), "go on with --resume runs/a b"),
        ("make one with resnetkit.convert", (), "make one with `resnetkit convert`"),
        ("/data/out/lr.png, not lr", "lr", "/data/out/lr.png, not --lr"),
    ],
)  # fmt: skip
def test_in_flags(text: str, field: str | tuple[str, ...], command: str) -> None:
    error = InputError(text, field=field)
    assert str(error) == text
    assert in_flags(error) == command
    assert in_flags(error.behind("here: ")) == f"here: {command}"


def test_both_wordings(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^epochs is 0; it must be an integer from 1$"):
        resnetkit.train("digits", epochs=0, out=tmp_path / "run")
    assert main(["train", "digits", "--epochs", "0", "--out", str(tmp_path / "run")]) == 2
    assert "--epochs is 0; it must be an integer from 1\n" in capsys.readouterr().err

"""A folder of mixed rubbish: every good image answered, every bad one named with its reason."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data

import resnetkit
from data.test_decode import bomb
from forking import Forks
from rubbish import mutations, originals

GOOD = 12


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "tiny.safetensors"
    module = resnetkit.build("resnet20", num_classes=5).eval()
    resnetkit.Bundle.from_module(module, preprocess=resnetkit.Preprocess(size=8)).save(path)
    return path


def fill(folder: Path, mutated: int) -> tuple[set[bytes], set[bytes], set[bytes]]:
    """Names of images that have to be answered, of those that must not, and of either kind."""
    picture = PIL.Image.fromarray(skimage.data.coffee()).resize((60, 40))
    good, bad, either = set(), set(), set()
    odd = [b"new\nline.jpg", b"\xff\xfe.jpg", b'quo"te, comma.jpg', "ünïcode.jpg".encode()]
    for number in range(GOOD):
        name = odd[number] if number < len(odd) else b"good%02d.jpg" % number
        picture.save(os.fsdecode(os.path.join(os.fsencode(folder), name)), "JPEG")
        good.add(name)
    for ending, data in originals().items():
        (folder / f"original.{ending}").write_bytes(data)
        good.add(f"original.{ending}".encode())
    (folder / "link.png").symlink_to(folder / "good05.jpg")
    good.add(b"link.png")
    bomb(folder / "bomb.png")
    (folder / "empty.jpg").touch()
    (folder / "text.gif").write_text("no image\n" * 99)
    (folder / "itself.png").symlink_to(folder / "itself.png")
    (folder / "nowhere.png").symlink_to(folder / "nothing.png")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "script.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage"
    )
    PIL.Image.new("L", (2_000_000, 1)).save(folder / "thread.png")
    PIL.Image.fromarray(np.zeros((4, 4), np.float32)).save(folder / "float.tif")
    bad |= {b"bomb.png", b"empty.jpg", b"text.gif", b"itself.png", b"nowhere.png", b"pipe.jpg"}
    bad |= {b"device.png", b"script.jpg", b"thread.png", b"float.tif"}
    (folder / "loop").symlink_to(folder)
    deep = folder.joinpath(*["d" * 20] * 20)
    deep.mkdir(parents=True)
    picture.save(deep / "deep.png")
    good.add(os.fsencode(os.path.relpath(deep / "deep.png", folder)))
    for number, (ending, data) in enumerate(mutations(mutated, seed=7)):
        name = f"mutated{number:05}.{ending}"
        (folder / name).write_bytes(data)
        either.add(name.encode())
    return good, bad, either


def answered(bundle: Path, folder: Path, mutated: int, *options: str) -> None:
    good, bad, either = fill(folder, mutated)
    words = [sys.executable, "-m", "resnetkit", "predict", str(bundle), str(folder), *options]
    out = folder.parent / "out.jsonl"
    environment = {**os.environ, "RESNETKIT_CACHE": str(folder.parent / "cache")}
    done = subprocess.run(
        [*words, "--topk", "1", "--engine", "torch", "--out", str(out)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    by_name = {os.fsencode(os.path.relpath(row["image"], folder)): row for row in rows}
    assert len(by_name) == len(rows)
    assert set(by_name) == good | bad | either
    for name, row in by_name.items():
        problem = row.get("problem")
        assert problem is None or (problem.strip() and "\n" not in problem), name
        assert (problem is None) == bool(row["predictions"]), name
        assert name in either or (problem is None) == (name in good), (name, problem)
    told = [line for line in done.stderr.splitlines() if "skipped" in line]
    assert len(told) == sum("problem" in row for row in rows)
    assert any(by_name[name].get("problem") for name in either)
    assert any(not by_name[name].get("problem") for name in either)


@pytest.mark.parametrize("options", [(), pytest.param(("--exact",), marks=pytest.mark.slow)])
def test_rubbish(options: tuple[str, ...], bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "rubbish").mkdir()
    answered(bundle, tmp_path / "rubbish", 100, *options)


@pytest.mark.slow
def test_much_rubbish(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "rubbish").mkdir()
    answered(bundle, tmp_path / "rubbish", 2400)


def test_odd_tags(bundle: Path, tmp_path: Path, forks: Forks) -> None:
    """What Pillow warns of while it decodes stays off the terminal: the rows say what matters."""
    PIL.Image.new("RGB", (60, 40)).save(tmp_path / "odd.tif", description="x" * 50)
    data = bytearray((tmp_path / "odd.tif").read_bytes())
    entry = data.index(struct.pack("<HH", 270, 2))
    data[entry + 4 : entry + 8] = struct.pack("<I", 1 << 30)
    (tmp_path / "odd.tif").write_bytes(data)
    with pytest.warns(UserWarning, match="Tag data larger than file"):
        PIL.Image.open(tmp_path / "odd.tif").load()
    words = ("predict", bundle, tmp_path / "odd.tif", "--topk", 1, "--engine", "torch")
    assert forks.run(*words) == 0
    assert "odd.tif" in forks.printed
    assert "Warning" not in forks.errors


#: File systems allow so many links to a file, and more.
LINKS = 10_000
#: Predicts COUNT tiny images that all are links to one, and prints the peak of its memory in KiB.
MEMORY = """
import re, sys
from pathlib import Path
from resnetkit.cli.main import main
code = main(["predict", *sys.argv[1:], "--topk", "1", "--engine", "torch", "--batch-size", "32"])
# ru_maxrss would be that of the process that started this one.
print(code, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def peak(bundle: Path, folder: Path, count: int) -> int:
    folder.mkdir()
    PIL.Image.fromarray(skimage.data.coffee()).resize((20, 16)).save(folder / "000000.png")
    for number in range(1, count):
        first, path = folder / f"{number // LINKS * LINKS:06}.png", folder / f"{number:06}.png"
        if path == first:
            shutil.copy(folder / "000000.png", path)
        else:
            os.link(first, path)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(bundle), str(folder), "--out", f"{folder}.csv"],
        capture_output=True,
        text=True,
        check=False,
    )
    code, kilobytes = done.stdout.split()
    assert code == "0", done.stderr
    assert len(Path(f"{folder}.csv").read_text().splitlines()) == count + 1
    return int(kilobytes)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images(bundle: Path, tmp_path: Path) -> None:
    few, many = peak(bundle, tmp_path / "few", 100), peak(bundle, tmp_path / "many", 1000)
    assert many < 1.1 * few


@pytest.mark.slow
def test_memory_of_very_many_images(bundle: Path, tmp_path: Path) -> None:
    few, many = peak(bundle, tmp_path / "few", 5000), peak(bundle, tmp_path / "many", 100_000)
    print(f"peak of 5,000: {few} KiB, of 100,000: {many} KiB")
    assert many < 1.1 * few

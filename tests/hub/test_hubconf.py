"""``torch.hub`` with a clone that is not installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import torch

import resnetkit

ROOT = Path(__file__).parents[2]
CODE = """
import json, sys, torch
folder, bundle = sys.argv[1:]
module = torch.hub.load(folder, "resnet50d", source="local", num_classes=3)
loaded = torch.hub.load(folder, "load", bundle, source="local")
import hubconf, resnetkit
entries = [name for name in dir(hubconf) if callable(getattr(hubconf, name)) and name[0] != "_"]
print(json.dumps([resnetkit.__file__, entries, module.network.name, module.num_classes,
                  loaded(torch.ones(1, 3, 32, 32)).tolist()]))
"""


def test_a_clone(tmp_path: Path) -> None:
    shutil.copy(ROOT / "hubconf.py", tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    module = resnetkit.build("resnet20", num_classes=4)
    resnetkit.Bundle.from_module(module).save(tmp_path / "net.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({str(tmp_path)!r})\n{CODE}",
         tmp_path, tmp_path / "net.safetensors"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    file, entries, name, num_classes, logits = json.loads(done.stdout)
    assert Path(file).is_relative_to(tmp_path)
    assert set(entries) == {"load", *resnetkit.list_models()}
    assert (name, num_classes) == ("resnet50d", 3)
    with torch.inference_mode():
        assert logits == module.eval()(torch.ones(1, 3, 32, 32)).tolist()

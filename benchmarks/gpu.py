"""Everything about a GPU in one run of at most six minutes, for a machine that is lent for minutes.

Finds a Python with torch and a GPU, installs the wheels of --wheels where packages are missing
(nothing is downloaded), and measures part by part, the most valuable first. Each part is a process
of its own with its own time limit, so one that hangs or crashes loses only itself. Results are in
$OUT (or --out): environment.json and PART.json. Parts that are done are not repeated, so the same
command continues after an interruption. --miniature runs the same code with tiny networks on the
processor, in which the figures mean nothing. docs/gpu.md explains the parts.

    python3 benchmarks/gpu.py [--out DIR] [--data FASHION-MNIST] [--wheels DIR] [--only PART,...]
        [--seconds 360] [--python FILE] [--miniature] [--show]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
#: Seconds that a part needs to start at all, and a probe of a Python may take.
LEAST, PROBE = 10.0, 90.0
#: Times the limits in miniature: processors are shared, and start torch slowly.
SLOW = 3
#: Packages of which the versions are kept, and those that the package and the server import.
KEPT = ("torch", "torchvision", "timm", "triton", "numpy", "onnxruntime", "onnxruntime-gpu")
NEEDED = ("argcomplete", "jinja2", "lazy_loader", "ml_dtypes", "numpy", "PIL", "rich", "tomli_w",
          "torch", "torchvision", "timm", "safetensors", "sklearn", "matplotlib", "fastapi",
          "httpcore", "httptools", "python_multipart", "prometheus_client", "pydantic", "uvicorn",
          "uvloop")  # fmt: skip
PROBING = """
import importlib.util, importlib.metadata, json, platform
found = {"python": platform.python_version(), "gpus": []}
missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
versions = {}
for name in KEPT:
    try: versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError: versions[name] = None
found.update(packages=versions, missing=missing)
try:
    import torch
    found["torch_cuda"] = torch.version.cuda
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        one = torch.cuda.get_device_properties(number)
        found["gpus"].append({"name": one.name, "GiB": one.total_memory / 2**30,
                              "capability": f"{one.major}.{one.minor}"})
except Exception as error:
    found["torch_error"] = f"{type(error).__name__}: {error}"
print("FOUND" + json.dumps(found))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the run: its time limit in seconds, and what it measures."""

    name: str
    seconds: float
    about: str


PARTS = (
    Part(name="exactness", seconds=45, about="logits and a training step against torchvision"),
    Part(name="training", seconds=85, about="a run ends, and resumes bit-identical when killed"),
    Part(name="step", seconds=100, about="images a second of a training step"),
    Part(name="inference", seconds=100, about="images a second of the network alone"),
    Part(name="decoding", seconds=45, about="JPEG files to the GPU"),
    Part(name="server", seconds=40, about="requests a second"),
    Part(name="memory", seconds=35, about="peak memory, and what a full memory says"),
)


# ------------------------------------------------------------------------- the environment


def probed(python: str, env: Mapping[str, str]) -> dict[str, Any]:
    """What a Python has; ``problem`` if it does not run."""
    code = f"NEEDED, KEPT = {NEEDED!r}, {KEPT!r}\n{PROBING}"
    try:
        done = subprocess.run(
            [python, "-c", code],
            capture_output=True,
            text=True,
            timeout=PROBE,
            env=env,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"executable": python, "problem": str(error)}
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    if not lines:
        said = done.stderr.strip().splitlines() or [f"it exits with {done.returncode}"]
        return {"executable": python, "problem": said[-1]}
    return {**json.loads(lines[-1].removeprefix("FOUND")), "executable": python}


def usable(found: Mapping[str, Any], *, gpu: bool) -> bool:
    """Whether the parts can run in it."""
    has_torch = "problem" not in found and "torch" not in found["missing"]
    return has_torch and "torch_error" not in found and (bool(found["gpus"]) or not gpu)


def candidates(given: str | None) -> list[str]:
    """The Pythons to try, without repetitions."""
    if given:
        return [given]
    names = [sys.executable, str(ROOT / ".venv" / "bin" / "python"), shutil.which("python3")]
    return list(dict.fromkeys(name for name in names if name and Path(name).exists()))


def installed(python: str, wheels: Path, site: Path, env: Mapping[str, str]) -> str:
    """Install carried wheels into ``site``; says how that went."""
    files = sorted(map(str, wheels.glob("*.whl"))) if wheels.is_dir() else []
    if not files:
        return f"no wheels in {wheels}"
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile",
         "--no-cache-dir", "--target", str(site), *files],
        capture_output=True, text=True, env=env, check=False,
    )  # fmt: skip
    said = done.stderr.strip().splitlines()
    return f"{len(files)} wheels" if done.returncode == 0 else f"pip failed: {said[-1:]}"


def environment(args: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What was found on this machine, and the variables of the parts' processes."""
    site = folder / "site"
    path = os.pathsep.join([str(ROOT / "src"), str(site)])
    env = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1",
           "RESNETKIT_CACHE": str(folder / "cache")}  # fmt: skip
    tried = []
    for python in candidates(args.python):
        tried.append(probed(python, env))
        if usable(tried[-1], gpu=not args.miniature):
            break
    found = tried[-1]
    document: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "miniature": args.miniature,
        "usable": usable(found, gpu=not args.miniature),
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "tried": tried,
    }
    if document["usable"] and found["missing"]:
        document["wheels"] = installed(found["executable"], Path(args.wheels), site, env)
        found = probed(found["executable"], env)
    return {**document, **found}, env


# -------------------------------------------------------------------------------- the parts


def run_part(command: Sequence[str], seconds: float, env: Mapping[str, str]) -> dict[str, Any]:
    """Run a part and return its result: status, why, seconds, rows.

    The process gets the file for its rows as the last argument. The rows it wrote until it ended,
    or was ended after ``seconds``, are kept.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        rows, log = Path(folder, "rows.jsonl"), Path(folder, "log")
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*command, str(rows)], start_new_session=True, stdin=subprocess.DEVNULL,
                stdout=stream, stderr=subprocess.STDOUT, env=env,
            )  # fmt: skip
            late = False
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                late = True
            finally:
                # The part, and whatever it started.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said = log.read_text(errors="replace").strip()
        found = list(lines_of(rows))
    result = ended(process.returncode, late, seconds, said, found)
    return {**result, "seconds": round(time.monotonic() - began, 1)}


def ended(
    code: int, late: bool, seconds: float, said: str, found: list[dict[str, Any]]
) -> dict[str, Any]:
    """How a part ended: its status, the reason, the rows, and the end of its log if it failed."""
    rows = [row for row in found if "status" not in row]
    told = [row for row in found if "status" in row]
    if late:
        why: dict[str, Any] = {"status": "out of time", "why": f"ended after {seconds:.0f} s"}
    elif told:
        why = told[-1]
    elif code == 0:
        return {"status": "done", "why": "", "rows": rows}
    else:
        end = said.splitlines()[-1] if said else "it printed nothing"
        by = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        why = {"status": "crashed", "why": f"{by}: {end}"}
    return {**why, "rows": rows, "log": said[-4000:]}


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows in a file; the last line may be half written."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                yield json.loads(line)


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write JSON so that the file is whole or not there."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(document, indent=1) + "\n")
    temporary.replace(path)


def is_done(path: Path, *, miniature: bool) -> bool:
    """Whether a part's result is there and need not be repeated."""
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        return found["status"] == "done" and found["miniature"] == miniature
    return False


def run_parts(args: argparse.Namespace, out: Path, deadline: float) -> int:
    """Run what is not there yet; the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        found, env = environment(args, Path(folder))
        write(out / "environment.json", found)
        if not found["usable"]:
            reasons = "; ".join(f"{one['executable']}: {reason_of(one)}" for one in found["tried"])
            print(f"gpu.py: no Python here has torch and a GPU ({reasons})", file=sys.stderr)
            return 2
        print(f"{found['executable']}, {packages_of(found)}; missing: "
              f"{', '.join(found['missing']) or 'nothing'}", flush=True)  # fmt: skip
        for part in PARTS:
            path = out / f"{part.name}.json"
            if part.name not in args.only or is_done(path, miniature=args.miniature):
                continue
            seconds = min(
                part.seconds * (SLOW if args.miniature else 1), deadline - time.monotonic()
            )
            if seconds < LEAST:
                print(f"{part.name}: no time left; the same command continues here", flush=True)
                continue
            print(f"{part.name}: {part.about}, at most {seconds:.0f} s", flush=True)
            command = [found["executable"], str(HERE / "gpu_parts.py"), part.name,
                       "--seconds", f"{seconds - 2:.1f}", "--data", args.data]  # fmt: skip
            command += ["--miniature"] if args.miniature else []
            result = run_part(command, seconds, env)
            write(path, {"part": part.name, "miniature": args.miniature, **result})
            print(f"  {result['status']} after {result['seconds']} s {result['why']}", flush=True)
    return 0


def reason_of(found: Mapping[str, Any]) -> str:
    """Why the parts cannot run in a Python."""
    if "problem" in found:
        return str(found["problem"])
    if "torch" in found["missing"]:
        return "no torch"
    return str(found.get("torch_error", "torch finds no GPU"))


def packages_of(found: Mapping[str, Any]) -> str:
    """The versions, in words."""
    versions = {"python": found["python"], **found["packages"]}
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


# ------------------------------------------------------------------------------ the summary


def shown(value: object) -> str:
    """A figure of a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def tables(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Markdown tables of rows, one for each of their ``table``."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["table"], []).append(row)
    for title, members in groups.items():
        keys = list(dict.fromkeys(key for row in members for key in row if key != "table"))
        yield f"\n{title}\n"
        yield f"| {' | '.join(keys)} |"
        yield f"|{'---|' * len(keys)}"
        for row in members:
            yield f"| {' | '.join(shown(row.get(key, '')) for key in keys)} |"


def summary(out: Path) -> Iterator[str]:
    """All results in a folder as text."""
    with suppress(OSError, ValueError):
        found = json.loads((out / "environment.json").read_text())
        cards = ", ".join(f"{gpu['name']} ({gpu['GiB']:.0f} GiB)" for gpu in found.get("gpus", ()))
        yield f"{found['date']}, {cards or 'no GPU'}, {found['cpus']} CPUs"
        if "packages" in found:
            yield packages_of(found)
        if found["miniature"]:
            yield "in miniature: these figures mean nothing"
    for part in PARTS:
        path = out / f"{part.name}.json"
        if not path.exists():
            yield f"\n## {part.name}: not measured"
            continue
        result = json.loads(path.read_text())
        why = f" ({result['why']})" if result["why"] else ""
        yield f"\n## {part.name}: {result['status']}{why}, {result['seconds']} s"
        yield from tables(result["rows"])


def main() -> int:
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "gpu-results")))
    parser.add_argument("--data", default="", help="a folder of Fashion-MNIST; else the digits")
    parser.add_argument("--wheels", default=str(ROOT / ".wheels"))
    parser.add_argument("--only", default=",".join(names))
    parser.add_argument("--seconds", type=float, help="of all; default: 360, 1080 in miniature")
    parser.add_argument("--python")
    parser.add_argument("--miniature", action="store_true")
    parser.add_argument("--show", action="store_true", help="print the results in --out, and stop")
    args = parser.parse_args()
    args.only = args.only.split(",")
    if unknown := [name for name in args.only if name not in names]:
        parser.error(f"no part {unknown[0]}; there are {', '.join(names)}")
    seconds = 360.0 * (SLOW if args.miniature else 1) if args.seconds is None else args.seconds
    deadline = time.monotonic() + seconds
    code = 0
    if not args.show:
        args.out.mkdir(parents=True, exist_ok=True)
        code = run_parts(args, args.out, deadline)
    print("\n".join(summary(args.out)))
    return code


if __name__ == "__main__":
    raise SystemExit(main())

"""What the fast path costs in accuracy and saves in time, on scikit-image's photographs.

    python benchmarks/pixels.py [MODEL] [--rounds 5]

For photographs of several sizes, as JPEG files of quality 90: processor time of one thread for the
exact and the fast path (file to uint8 square, 224 of 256), grey levels between the two, and the
answers of MODEL, a bundle (without one: ResNet-18 with random weights, for which only the largest
difference of its softmax says something). Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import PIL.Image
import skimage.data
import torch

import resnetkit
from resnetkit.bundle.bundle import Bundle
from resnetkit.data.decoding import decode, fast_decode
from resnetkit.inference.engines.autotune import machine
from resnetkit.inference.engines.selection import open_engine
from resnetkit.preprocess import Preprocess

NAMES = ("astronaut", "chelsea", "coffee", "rocket", "immunohistochemistry", "retina", "skin")
SIZES = ((500, 375), (640, 480), (1000, 750), (1600, 1200), (4000, 3000))
FACTS = Preprocess(size=224, resize_to=256)


def photographs() -> list[PIL.Image.Image]:
    found = []
    for name in NAMES:
        try:
            found.append(PIL.Image.fromarray(getattr(skimage.data, name)()).convert("RGB"))
        except Exception as error:  # some are downloaded, which takes the network
            print(f"without {name}: {type(error).__name__}")
    return found


def mosaic(pictures: list[PIL.Image.Image], width: int, height: int) -> PIL.Image.Image:
    """Detail as fine as a large photograph may have: all of them side by side, at full size."""
    whole = PIL.Image.new("RGB", (width, height))
    number = 0
    for top in range(0, height, 400):
        for left in range(0, width, 500):
            whole.paste(pictures[number % len(pictures)].resize((500, 400)), (left, top))
            number += 1
    return whole


def processor_time(function: Callable[[Path], object], files: list[Path], rounds: int) -> float:
    """Milliseconds of one thread an image: the median of ``rounds``."""
    found = []
    for _ in range(rounds + 1):
        began = time.thread_time()
        for file in files:
            function(file)
        found.append((time.thread_time() - began) / len(files) * 1000)
    return median(found[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if args.model is None:
        torch.manual_seed(0)
        module = resnetkit.build("resnet18").eval()
        bundle = Bundle.from_module(module, preprocess=FACTS)
    else:
        bundle = resnetkit.load(args.model)
    engine = open_engine(bundle)
    pictures = photographs()
    print(f"{datetime.date.today()}, {machine()['processor']}, {machine()['threads']} threads, "
          f"Python {platform.python_version()}, Pillow {PIL.__version__}, simplejpeg "
          f"{version('simplejpeg')}, torch {torch.__version__}; {args.rounds} rounds")  # fmt: skip
    print("| size | images | decoded at | resized by | exact, ms | fast, ms | ratio | max levels | "
          "mean | same top-1 | softmax, max |")  # fmt: skip
    print("|---|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for width, height in SIZES:
            files = []
            for number, picture in enumerate([*pictures, mosaic(pictures, width, height)]):
                files.append(Path(folder, f"{number}.jpg"))
                scaled = picture.resize((width, height), PIL.Image.Resampling.LANCZOS)
                scaled.save(files[-1], quality=90)
            for by_torch in (True, False):
                fast = partial(fast_decode.pixels_of, torch=by_torch)
                cuts = [
                    np.stack([path(file, bundle.preprocess) for file in files])
                    for path in (decode.pixels_of, fast)
                ]
                levels = np.abs(cuts[0].astype(int) - cuts[1])
                logits = [engine.answer(cut) for cut in cuts]
                shares = [np.exp(row - row.max(1, keepdims=True)) for row in logits]
                shares = [share / share.sum(1, keepdims=True) for share in shares]
                same = (logits[0].argmax(1) == logits[1].argmax(1)).sum()
                exact, quick = (
                    processor_time(lambda f, p=path: p(f, FACTS), files, args.rounds)
                    for path in (decode.pixels_of, fast)
                )
                part = fast_decode._factor(width, height, bundle.preprocess)
                print(f"| {width}x{height} | {len(files)} | 1/{part} | "
                      f"{'torch' if by_torch else 'Pillow'} | {exact:.2f} | {quick:.2f} | "
                      f"{quick / exact:.2f} | {levels.max()} | {levels.mean():.2f} | "
                      f"{same}/{len(files)} | {np.abs(shares[0] - shares[1]).max():.4f} |",
                      flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

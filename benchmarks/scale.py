"""What predicting or training on very many images takes: cores, hours, bytes, requests and money.

Plain arithmetic on rates that were measured, and prices that are given; docs/scale.md has its
output, and says what was measured and what is extrapolated.

    .venv/bin/python benchmarks/scale.py [--cores 64] [--rate 44] [--train-rate 4.7] [--hours 24]
                        [--core-price 0.04] [--request-price 0.0004] [--storage-price 0.023]
                        [--image-bytes 110000] [--shard-bytes 256e6] [--format table|json]
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass

#: Name and number of images. ImageNet-1k's training images are 1,281,167 (image-net.org).
SETS = (("ImageNet-1k", 1_281_167), ("a billion pictures", 1_000_000_000))
#: Bytes of one GET of a shard, and of the list of one request to S3 (its documentation): keys.
BLOCK, KEYS = 8 << 20, 1000
#: Bytes of a row of five classes in Parquet, and of an embedding of 2,048 numbers.
ROW, EMBEDDING = 90, 4 * 2048
HOURS_OF_A_MONTH = 730


@dataclass(frozen=True, kw_only=True)
class Given:
    """What is measured (``rate``, ``train_rate``, images/s and core; ``efficiency``), chosen
    (``cores``, ``hours``, ``epochs``, ``shard_bytes``) and paid (per core and hour, per 1,000
    GET requests, per gigabyte and month)."""

    rate: float
    train_rate: float
    efficiency: float
    cores: int
    hours: float
    epochs: int
    image_bytes: float
    shard_bytes: float
    core_price: float
    request_price: float
    storage_price: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one job takes."""

    job: str
    images: int
    core_hours: float
    wall_hours: float
    cores_within_limit: int
    read_bytes: float
    written_bytes: float
    requests: int
    requests_of_single_files: int
    core_money: float
    request_money: float
    storage_money_per_month: float


def cost(job: str, images: int, rate: float, passes: int, written: float, given: Given) -> Cost:
    """The cost of ``passes`` over ``images`` at ``rate`` images/s and core."""
    core_hours = images * passes / (rate * given.efficiency) / 3600
    read = images * given.image_bytes
    shards = math.ceil(read / given.shard_bytes)
    # A shard is read once into the cache of a machine, and a billion pictures do not fit one: once
    # per pass. Each of its blocks is one request, and so is its table.
    blocks = math.ceil(given.shard_bytes / BLOCK)
    requests = shards * (blocks + 1) * passes
    return Cost(
        job=job,
        images=images,
        core_hours=core_hours,
        wall_hours=core_hours / given.cores,
        cores_within_limit=math.ceil(core_hours / given.hours),
        read_bytes=read * passes,
        written_bytes=written,
        requests=requests,
        requests_of_single_files=images * passes + math.ceil(images / KEYS),
        core_money=core_hours * given.core_price,
        request_money=requests / 1000 * given.request_price,
        storage_money_per_month=read / 1e9 * given.storage_price,
    )


def costs(given: Given) -> list[Cost]:
    """Prediction, embeddings and training of each set."""
    found = []
    for name, images in SETS:
        rows, vectors = images * ROW, images * EMBEDDING
        found.append(cost(f"{name}: predict", images, given.rate, 1, rows, given))
        found.append(cost(f"{name}: embeddings", images, given.rate, 1, vectors, given))
        job = f"{name}: train, {given.epochs} epochs"
        found.append(cost(job, images, given.train_rate, given.epochs, 0, given))
    return found


def size(count: float) -> str:
    """``141 GB``."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if count < 1000 or unit == "PB":
            return f"{count:.3g} {unit}" if count < 1000 else f"{count:,.0f} {unit}"
        count /= 1000
    raise AssertionError


def number(value: float) -> str:
    """Three digits, in full."""
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{float(f'{value:.3g}'):,.{digits}f}"


def table(given: Given) -> str:
    """The costs as a Markdown table."""
    heads = ("", "core hours", f"hours on {given.cores} cores", f"cores for {given.hours:g} h",
             "read", "written", "GETs of shards", "of single files", "cores cost", "GETs cost",
             "storage, a month")  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
    for one in costs(given):
        cells = (
            one.job, number(one.core_hours), number(one.wall_hours),
            f"{one.cores_within_limit:,}", size(one.read_bytes),
            size(one.written_bytes) if one.written_bytes else "", f"{one.requests:,}",
            f"{one.requests_of_single_files:,}", number(one.core_money),
            number(one.request_money), number(one.storage_money_per_month),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--rate", type=float, default=44.0, help="images/s and core in prediction")
    add("--train-rate", type=float, default=4.7, help="images/s and core in training")
    add("--efficiency", type=float, default=0.94, help="of many workers, against one")
    add("--cores", type=int, default=64)
    add("--hours", type=float, default=24.0, help="the time that the job may take")
    add("--epochs", type=int, default=90)
    add("--image-bytes", type=float, default=110_000)
    add("--shard-bytes", type=float, default=256e6)
    add("--core-price", type=float, default=0.04, help="per core and hour")
    add("--request-price", type=float, default=0.0004, help="per 1,000 GET requests")
    add("--storage-price", type=float, default=0.023, help="per gigabyte and month")
    add("--format", choices=("table", "json"), default="table")
    arguments = vars(parser.parse_args())
    kind = arguments.pop("format")
    for name, value in arguments.items():
        low = 0 if name.endswith("price") else 1e-12
        if not low <= value < 1e15:
            parser.error(f"--{name.replace('_', '-')} is {value:g}; it must be above 0")
    given = Given(**arguments)
    if kind == "json":
        document = {"given": asdict(given), "costs": [asdict(one) for one in costs(given)]}
        print(json.dumps(document, indent=2))
    else:
        print(table(given))


if __name__ == "__main__":
    main()

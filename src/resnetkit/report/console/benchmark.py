"""Prints benchmarks."""

from __future__ import annotations

from resnetkit.architecture.text import aligned
from resnetkit.evaluation.benchmarking import Benchmark
from resnetkit.report.console.lines import say


def show_bench(bench: Benchmark) -> None:
    """The rows by batch size, each with its ratio to the first."""
    where = bench.machine
    say(f"{bench.network} at {bench.size}x{bench.size} on {where['threads']} threads of "
        f"{where['processor']}; n = {bench.rows[0].rounds} rounds in turn, medians\n")  # fmt: skip
    first = bench.rows[0].name
    heading = (
        "batch",
        "engine",
        "precision",
        "img/s",
        f"to {first}",
        "least",
        "most",
        "differs by",
    )
    rows = [
        (
            str(row.batch),
            row.name,
            row.precision,
            f"{row.rate:.1f}",
            f"{row.ratio:.2f}",
            f"{row.least:.2f}",
            f"{row.most:.2f}",
            f"{bench.differences[row.name]:.0e}",
        )
        for row in bench.rows
    ]
    say("\n".join(aligned([heading, *rows], {1, 2})))

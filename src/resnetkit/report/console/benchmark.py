"""Prints benchmarks."""

from __future__ import annotations

from resnetkit.evaluation.benchmarking import Benchmark
from resnetkit.report.console.fitting import fitted, terminal_width, wrapped
from resnetkit.report.console.lines import say


def show_bench(bench: Benchmark) -> None:
    """The rows by batch size, each with its ratio to the first."""
    where = bench.machine
    width = terminal_width()
    first = bench.rows[0].name
    where_measured = (
        f"{bench.network} at {bench.size}x{bench.size} on {where['threads']} threads of "
        f"{where['processor']}; n = {bench.rows[0].rounds} rounds in turn, medians"
    )
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
    table = fitted(
        [heading, *rows],
        {1, 2},
        width,
        wraps={1},
        expendable=("precision", "most", "least", "differs by"),
    )
    meaning = (
        f"to {first}: the rate relative to {first} in the same round, its least and most; "
        f"differs by: the largest difference of a logit to {first}'s, relative to the largest logit"
    )
    lines = [*wrapped(where_measured, width), ""]
    lines += [line for row in table.rows for line in row]
    say("\n".join([*lines, *table.notes, "", *wrapped(meaning, width)]))

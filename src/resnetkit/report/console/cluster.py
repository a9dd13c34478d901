"""Prediction on a cluster: one line with progress, rate, failures and cost."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from resnetkit.cluster import Progress as Done
from resnetkit.cluster import RayOptions, predict_on_ray
from resnetkit.cluster.ray_cluster import LostClusterError
from resnetkit.inference.predictor import PredictOptions
from resnetkit.report.console.lines import say
from resnetkit.report.console.progress import INTERVAL, clock
from resnetkit.report.cost import Cost, Prices
from resnetkit.report.metrics_server import MetricsServer

#: The metrics, each with ``resnetkit_predict_`` before its name.
METRICS = {
    "images": "Images that have been predicted, with those of earlier calls",
    "images_kept": "Images of earlier calls",
    "images_expected": "All images; NaN while shards have not been read",
    "unreadable_images": "Images that cannot be read",
    "files": "Files of predictions that are written",
    "files_expected": "All files of predictions",
    "images_per_second": "Images per second of all workers in this call",
    "cores": "Processors of all workers",
    "core_hours": "Processors of all workers times hours of this call",
    "cost": "Price of the core hours; NaN if the price of one is not given",
    "lost_machines": "Machines of the cluster that do not answer any more",
}


def show_on_ray(
    model: str,
    paths: Sequence[str],
    out: str,
    options: PredictOptions,
    ray_options: RayOptions,
    *,
    core_price: float | None = None,
    metrics_port: int | None = None,
) -> int:
    """Predict with progress on stderr; return 1 if some images are unreadable.

    ``core_price`` is that of a core for an hour, in any currency. The progress is also served as
    metrics for Prometheus on ``metrics_port``.
    """
    try:
        with _Watch(Prices(core_price=core_price), metrics_port) as watch:
            done = predict_on_ray(
                model, paths, out, options=options, ray_options=ray_options, on_progress=watch.show
            )
    except KeyboardInterrupt:
        print("resnetkit: run the same command to continue", file=sys.stderr)
        raise
    except LostClusterError as error:
        print(f"resnetkit: {error}", file=sys.stderr, flush=True)
        # Ray would wait for the head at the end of Python.
        os._exit(2)
    kept = f", {done.kept:,} of them were there before" if done.kept else ""
    say(f"{done.images:,} images in {done.of:,} files{kept}: {out}")
    if done.images > done.kept:
        say(watch.summary(done))
    if done.unreadable:
        print(
            f"resnetkit: {done.unreadable:,} of them could not be read; the column problem says "
            "why",
            file=sys.stderr,
        )
    return 1 if done.unreadable else 0


class _Watch:
    """A bar on a terminal, a line now and then elsewhere. Time counts from the first call, when
    the cluster is ready."""

    def __init__(self, prices: Prices, metrics_port: int | None) -> None:
        self._price = prices.core_price
        self._metrics = None
        if metrics_port is not None:
            self._metrics = MetricsServer("resnetkit_predict_", METRICS, metrics_port)
        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.fields[line]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", line="starting", total=None)
        self._stack = ExitStack()
        self._began = self._last = 0.0

    def __enter__(self) -> _Watch:
        if self._metrics is not None:
            self._metrics.listen()
            self._stack.callback(self._metrics.close)
        self._stack.enter_context(self._bar)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def show(self, done: Done) -> None:
        """Show the state."""
        now = time.perf_counter()
        if not self._began:
            self._began = self._last = now
            if done.dashboard:
                print(f"resnetkit: Ray's dashboard: {done.dashboard}", file=sys.stderr)
            if done.free_cpus is not None and done.free_cpus < done.cpus:
                print(
                    f"resnetkit: {done.free_cpus} of the workers' {done.cpus} processors are free; "
                    "workers start as other jobs end",
                    file=sys.stderr,
                )
        line = self._line(done, now - self._began)
        self._bar.update(
            self._task,
            completed=done.partitions if done.total is None else done.images,
            total=done.of if done.total is None else done.total,
            line=line,
        )
        if self._metrics is not None:
            self._metrics.set(**self._measured(done, now - self._began))
        if not self._console.is_terminal and now - self._last >= INTERVAL:
            self._last = now
            print(f"resnetkit: {line}", file=sys.stderr)

    def _measured(self, done: Done, seconds: float) -> dict[str, float]:
        cost = self._cost(done)
        return {
            "images": done.images,
            "images_kept": done.kept,
            "images_expected": math.nan if done.total is None else done.total,
            "unreadable_images": done.unreadable,
            "files": done.partitions,
            "files_expected": done.of,
            "images_per_second": (done.images - done.kept) / max(seconds, 1e-9),
            "cores": done.cpus,
            "core_hours": cost.hours(seconds),
            "cost": cost.price_of(seconds),
            "lost_machines": done.lost,
        }

    def _line(self, done: Done, seconds: float) -> str:
        """``3,072 of 20,000 images, 85 images/s, 3:19 left, 2 unreadable, 0.12 core hours``."""
        rate = (done.images - done.kept) / max(seconds, 1e-9)
        of = "" if done.total is None else f" of {done.total:,}"
        parts = [f"{done.images:,}{of} images"]
        if done.total is None:
            parts.append(f"{done.partitions:,} of {done.of:,} files")
        if rate:
            parts.append(f"{rate:,.0f} images/s")
            if done.total is not None:
                parts.append(f"{clock((done.total - done.images) / rate)} left")
        if done.unreadable:
            parts.append(f"{done.unreadable:,} unreadable")
        if done.lost:
            parts.append(f"{done.lost} machine{'s' if done.lost > 1 else ''} lost")
        return ", ".join([*parts, self._cost(done).text(seconds)])

    def _cost(self, done: Done) -> Cost:
        return Cost(unit="core", count=done.cpus, price=self._price)

    def summary(self, done: Done) -> str:
        """``236 s, 85 images/s, 0.13 core hours``, for the images of this call."""
        seconds = time.perf_counter() - self._began
        rate = (done.images - done.kept) / seconds
        cost = self._cost(done).text(seconds)
        return f"{seconds:,.1f} s, {rate:,.0f} images/s on {done.cpus} cores, {cost}"

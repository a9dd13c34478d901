"""Prediction of any number of images by the workers of a Ray cluster.

The images are divided into partitions. Ray Data hands them to actors, each of which holds one
engine, decodes, predicts, and writes a Parquet file per partition. What a killed worker or machine
had not written is done again by another one; what is written is never done twice.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from resnetkit.bundle.bundle import Bundle
from resnetkit.bundle.opening import as_model
from resnetkit.cluster.partition_folder import Counts, PartitionFolder
from resnetkit.cluster.partitions import IMAGES, Partition, identity, partitions
from resnetkit.cluster.ray_cluster import connected, free_cpus, nodes, watched
from resnetkit.cluster.worker import PredictionWorker, Task
from resnetkit.data.listing import STANDARD_INPUT, expanded
from resnetkit.data.storage import is_address
from resnetkit.errors import InputError, check_installed
from resnetkit.inference.engines.exported_model import Exported
from resnetkit.inference.engines.selection import PACKAGES, chosen, on_gpu
from resnetkit.inference.predictor import FEW, PredictOptions
from resnetkit.version import __version__

#: Blocks of Ray Data; more partitions than that share blocks.
_BLOCKS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """Where and how to run on Ray.

    ``address`` is that of the head, ``HOST:PORT``, or ``auto`` for the cluster that runs on this
    machine; by default ``RAY_ADDRESS``, and without it a cluster is started on this machine. After
    ``ray.init`` that connection is used, whatever the address.
    ``workers`` is the number of actors, by default as many as fit; ``worker_cpus`` the processors
    of each, by default all of the smallest machine, or with the device ``cuda`` its share for each
    GPU, as each worker has one; ``partition_size`` the images per file, except that a shard is one.

    Raises ``ValueError`` for numbers below 1.
    """

    address: str | None = None
    workers: int | None = None
    worker_cpus: int | None = None
    partition_size: int = IMAGES

    def __post_init__(self) -> None:
        for name in ("workers", "worker_cpus", "partition_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; it must be a whole number from 1", field=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a prediction is: ``images`` done, of which ``kept`` were there before.

    ``total`` images are known only where there are no shards; ``partitions`` of ``of`` are done.
    ``cpus`` are those of the workers, of which ``free_cpus`` were free at the start, as other jobs
    may have the others; ``lost`` machines do not answer any more. ``dashboard`` is the address of
    the job in Ray's dashboard, for a cluster that has one.
    """

    images: int
    unreadable: int
    kept: int
    total: int | None
    partitions: int
    of: int
    cpus: int
    lost: int = 0
    dashboard: str | None = None
    free_cpus: int | None = None


def predict_on_ray(
    model: Bundle | Exported | str | Path,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    options: PredictOptions = PredictOptions(),  # noqa: B008
    ray_options: RayOptions = RayOptions(),
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Predict images on a Ray cluster, into one Parquet file per partition in the folder ``out``.

    ``paths`` are images, folders, shards and Parquet files, ``out`` is a folder; both are visible
    to all machines, on a shared disk or in object storage. The rows are those of
    ``predict_to_file``, in the same order: by the files' names, and then within them. The engine
    that ``auto`` selects here is used everywhere. The same call finishes an interrupted one.

    Raises ``ValueError`` for an unusable model, image path, folder or cluster, for a worker that
    lacks a package or does not see the images, and if the head of the cluster is lost.
    """
    check_installed("ray", "predicting on a cluster")
    opened = as_model(model)
    engine = options.engine
    if engine == "auto":
        engine, _ = chosen(opened if isinstance(opened, Exported) else None, options.device)
    device = options.device
    if device is None and PACKAGES[engine] == "torch" and on_gpu():
        device = "cuda"
    options = replace(options, engine=engine, device=device)
    given = expanded([_absolute(str(path)) for path in paths])
    planned = partitions(given, ray_options.partition_size)
    few = _are_few(planned)
    folder = PartitionFolder(str(out))
    plan = {
        "model": opened.digest,
        "images": identity(planned),
        "partitions": len(planned),
        "output": options.output,
        "topk": options.topk,
        "exact": options.exact or few,
        "engine": engine,
    }
    there = folder.claim(plan)
    done = Progress(
        images=sum(one.images for one in there.values()),
        unreadable=sum(one.unreadable for one in there.values()),
        kept=sum(one.images for one in there.values()),
        total=_total(planned, there),
        partitions=len(there),
        of=len(planned),
        cpus=0,
    )
    remaining = [one for one in planned if one.number not in there]
    if remaining:
        name, files = _files(opened)
        with connected(ray_options.address, sum(map(len, files.values()))) as page:
            gpus = int(device is not None and device.startswith("cuda"))
            workers, cpus = _sizes(ray_options, len(remaining), gpus)
            task = Task(
                version=__version__,
                plan=plan,
                out=folder.address,
                model=name,
                paths=tuple(path for path in given if not is_address(path)),
                options=replace(options, threads=cpus),
                few=few,
            )
            free = min(free_cpus(), workers * cpus)
            done = replace(done, cpus=workers * cpus, free_cpus=free, dashboard=page)
            on_progress(done)
            for counts, lost in _results(remaining, task, files, workers, (cpus, gpus)):
                done = replace(
                    done,
                    images=done.images + counts.images,
                    unreadable=done.unreadable + counts.unreadable,
                    partitions=done.partitions + 1,
                    lost=lost,
                )
                on_progress(done)
    folder.finish()
    return done


def _absolute(path: str) -> str:
    """The path as other machines know it."""
    return path if is_address(path) or path == STANDARD_INPUT else str(Path(path).absolute())


def _are_few(planned: Sequence[Partition]) -> bool:
    """Whether there are fewer images than the fast path is used for."""
    count = sum(one.count or 0 for one in planned)
    for one in planned:
        if count >= FEW:
            return False
        if one.count is None:
            # A shard is read only until there are enough.
            count += sum(1 for _ in islice(one.images(), FEW))
    return count < FEW


def _total(planned: Sequence[Partition], there: Mapping[int, Counts]) -> int | None:
    total = 0
    for one in planned:
        known = there[one.number].images if one.number in there else one.count
        if known is None:
            return None
        total += known
    return total


def _files(model: Bundle | Exported) -> tuple[str, dict[str, bytes]]:
    """The name of the model's file, and the contents of all of them."""
    if isinstance(model, Exported):
        weights = model.path.with_suffix(".bin")
        beside = [weights] if model.kind == "openvino" else []
        return model.path.name, {one.name: one.read_bytes() for one in (model.path, *beside)}
    with tempfile.TemporaryDirectory(prefix="resnetkit-") as folder:
        path = Path(folder, "model.safetensors")
        model.save(path)
        return path.name, {path.name: path.read_bytes()}


def _sizes(options: RayOptions, partitions: int, gpus: int) -> tuple[int, int]:
    """The number of workers, and the processors of each; ``gpus`` are those of a worker."""
    have = [
        (int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0)))
        for node in nodes()
    ]
    if gpus:
        have = [(cpus, count) for cpus, count in have if count]
        if not have:
            raise InputError("the cluster has no GPUs; give device cpu", field="device")
    have = [(cpus, count) for cpus, count in have if cpus]
    if not have:
        raise InputError("the cluster has no processors; start its machines with some")
    cpus = options.worker_cpus or max(1, min(cpus // max(1, gpus * n) for cpus, n in have))
    fit = sum(min(there // cpus, count if gpus else there) for there, count in have)
    if not fit:
        raise InputError(
            f"worker_cpus is {cpus}, and the largest machine has "
            f"{max(there for there, _ in have)} processors",
            field="worker_cpus",
        )
    return min(options.workers or fit, partitions), cpus


def _results(
    remaining: Sequence[Partition],
    task: Task,
    files: Mapping[str, bytes],
    workers: int,
    each: tuple[int, int],
) -> Iterator[tuple[Counts, int]]:
    """The counts of each partition as it is done, and the number of machines that were lost; the
    processors and GPUs of a worker are ``each``."""
    import ray
    import ray.data

    items = [{"number": one.number, "partition": one.to_json()} for one in remaining]
    data = ray.data.from_items(items, override_num_blocks=min(len(items), _BLOCKS))
    results = data.map_batches(
        PredictionWorker,
        fn_constructor_args=(task, ray.put(dict(files))),
        batch_size=1,
        num_cpus=each[0],
        num_gpus=each[1],
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
    )
    results.set_name("resnetkit_predict")
    with closing(watched(results.iter_rows)) as rows:
        for row, lost in rows:
            if row["error"]:
                raise InputError(str(row["error"]))
            yield Counts(images=int(row["images"]), unreadable=int(row["unreadable"])), lost

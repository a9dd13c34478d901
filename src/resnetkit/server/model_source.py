"""Where served models come from: names, opens and warms them up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from resnetkit import source
from resnetkit.bundle.bundle import Bundle
from resnetkit.bundle.opening import as_model, report_of
from resnetkit.errors import NO_CLASSES, InputError
from resnetkit.inference.engines.autotune import tuned
from resnetkit.inference.engines.engine import EngineName
from resnetkit.inference.engines.exported_model import Exported
from resnetkit.inference.engines.selection import open_engine
from resnetkit.server.served_model import ServedModel, labelled

Model = Bundle | Exported | str | Path
#: Sizes of a batch that are tried: larger ones make every request wait.
DEFAULT_SIZES = (1, 4, 8)
#: A name is a part of a URL's path.
_NAME = re.compile(r"(?P<name>[\w.-]+)(?:@(?P<version>[\w.-]+))?")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelSource:
    """A model to be served as ``version`` of ``name``."""

    name: str
    model: Model
    version: str = "1"

    @property
    def label(self) -> str:
        """How it is named in messages; see ``labelled``."""
        return labelled(self.name, self.version)

    @property
    def path(self) -> Path | None:
        """The file of the model, if it is one."""
        model = self.model.path if isinstance(self.model, Exported) else self.model
        if isinstance(model, Bundle) or source.is_source(model):
            return None
        return Path(model)

    def stamp(self) -> list[tuple[int, int, int] | None]:
        """Changes if the model's files do."""
        if self.path is None:
            return []
        return [_stamp(path) for path in (self.path, self.path.with_suffix(".bin"),
                                          report_of(self.path))]  # fmt: skip


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def model_sources(models: Model | Sequence[Model] | Mapping[str, Model]) -> list[ModelSource]:
    """The models with their names: the keys ``NAME`` or ``NAME@VERSION`` of a mapping, else short
    names. Raises ``InputError`` for invalid names."""
    if isinstance(models, Mapping):
        found = [_named(key, model) for key, model in models.items()]
    else:
        several = [models] if isinstance(models, Bundle | Exported | str | Path) else models
        found = [ModelSource(name=default_name(model), model=model) for model in several]
    return found


def _named(key: str, model: Model) -> ModelSource:
    match = _NAME.fullmatch(key)
    if match is None:
        raise InputError(
            f"{key!r} is not the name of a model; give letters, digits, dots, hyphens and "
            "underscores, and after an @ a version if there are several"
        )
    return ModelSource(name=match["name"], version=match["version"] or "1", model=model)


def default_name(model: Model) -> str:
    """The name of a file without suffix, with hyphens for what a name may not have."""
    short = source.short_name(model) if isinstance(model, str | Path) else model.network.name
    return re.sub(r"[^\w.-]", "-", short)


def split_name(text: str) -> tuple[str | None, str]:
    """The name and the path of ``NAME=PATH``, or no name.

    A ``PATH`` that has an equals sign itself and exists is one.
    """
    name, equals, path = text.partition("=")
    if not equals or _NAME.fullmatch(name) is None or Path(text).exists():
        return None, text
    return name, path


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """How models are opened; see ``serve``."""

    engine: EngineName = "auto"
    device: str | None = None
    threads: int | None = None
    exact: bool = False
    max_batch_size: int | None = None
    embeddings: bool = False
    inspect: bool = False

    def open(self, given: ModelSource) -> ServedModel:
        """Open and warm up a model. Raises ``InputError``."""
        opened = as_model(given.model)
        if not opened.classes:
            raise InputError(f"{given.name} {NO_CLASSES}")
        opening = partial(
            open_engine, opened, self.engine, device=self.device, threads=self.threads
        )
        served = ServedModel(
            name=given.name,
            version=given.version,
            engine=opening(),
            embedder=opening("embeddings") if self.embeddings else None,
            preprocess=opened.preprocess,
            classes=opened.classes,
            network=opened.network.name,
            exact=self.exact,
            digest=opened.digest,
            bundle=opened if self.inspect and isinstance(opened, Bundle) else None,
        )
        return replace(served, max_batch_size=warmed_up(served, self.max_batch_size))


def warmed_up(model: ServedModel, max_batch_size: int | None) -> int:
    """Choose the engines' streams, compute a first image both ways, and return the number of images
    of a batch: if it is not given, the fastest of ``DEFAULT_SIZES``."""
    engine, facts = model.engine, model.preprocess
    if engine.options.cuts:
        return 1
    shape = (facts.size, facts.size, facts.channel_count)
    sizes = DEFAULT_SIZES if max_batch_size is None else (max_batch_size,)
    size = tuned(engine, shape, model.digest, sizes)
    engines = [engine]
    if (embedder := model.embedder) is not None:
        embedder.streams = engine.streams
        engines.append(embedder)
    black = np.zeros((1, *shape), np.uint8)
    for one in engines:
        for shared in (False, True):
            one.answer(black, shared=shared)
    return size

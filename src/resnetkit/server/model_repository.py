"""The served models by name and version, each of which may be replaced while it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from resnetkit.errors import InputError
from resnetkit.server.decoder_pool import DecoderPool
from resnetkit.server.metrics import Metrics
from resnetkit.server.model_runner import ModelRunner
from resnetkit.server.served_model import Limits, ServedModel


class UnknownModelError(InputError):
    """No model of this name, or none of this version, is served."""


class _Lease:
    """A runner with the number of its users; it is closed when the last one has gone."""

    def __init__(self, runner: ModelRunner) -> None:
        self.runner, self.users = runner, 0
        self.unused = asyncio.Event()
        self.unused.set()

    @contextmanager
    def held(self) -> Iterator[ModelRunner]:
        self.users += 1
        self.unused.clear()
        try:
            yield self.runner
        finally:
            self.users -= 1
            if not self.users:
                self.unused.set()


class ModelRepository:
    """The runners of all models while it is entered; used from one event loop only.

    Several versions of a name may be served; the last one is the default.
    """

    def __init__(self, models: Sequence[ServedModel], limits: Limits, metrics: Metrics) -> None:
        if not models:
            raise InputError("there are no models; give at least one")
        self._limits, self._metrics = limits, metrics
        self._models: dict[str, dict[str, ServedModel]] = {}
        for model in models:
            versions = self._models.setdefault(model.name, {})
            if model.version in versions:
                raise InputError(
                    f"two models are version {model.version} of {model.name}; give them names, "
                    f"NAME=MODEL, or versions, {model.name}@VERSION=MODEL"
                )
            versions[model.version] = model
        self._default = models[0].name
        self._leases: dict[tuple[str, str], _Lease] = {}

    async def __aenter__(self) -> ModelRepository:
        limits = self._limits
        self._decoders = DecoderPool(limits.decode_threads, limits.max_decode_seconds)
        for model in self.models:
            self._leases[model.name, model.version] = _Lease(self._runner(model))
        return self

    async def __aexit__(self, *_: object) -> None:
        leases, self._leases = self._leases, {}
        await asyncio.gather(*(asyncio.to_thread(one.runner.close) for one in leases.values()))
        await asyncio.to_thread(self._decoders.close)

    @property
    def models(self) -> list[ServedModel]:
        """All versions of all models, in the order given."""
        return [model for versions in self._models.values() for model in versions.values()]

    @property
    def ready(self) -> bool:
        """Whether the models can be used."""
        return bool(self._leases)

    def versions(self, name: str) -> list[str]:
        """The versions of a model. Raises ``UnknownModelError``."""
        if name not in self._models:
            known = ", ".join(self._models)
            raise UnknownModelError(f"no model {name!r} is served; it must be one of {known}")
        return list(self._models[name])

    def model(self, name: str | None = None, version: str | None = None) -> ServedModel:
        """A model, by default the first; of its versions the last.

        Raises ``UnknownModelError``.
        """
        name = self._default if name is None else name
        versions = self.versions(name)
        version = versions[-1] if version is None else version
        if version not in versions:
            known = ", ".join(versions)
            raise UnknownModelError(f"{name} has no version {version!r}; it must be one of {known}")
        return self._models[name][version]

    @contextmanager
    def use(self, name: str | None = None, version: str | None = None) -> Iterator[ModelRunner]:
        """The runner of ``model(name, version)``, which stays open while it is used."""
        model = self.model(name, version)
        with self._leases[model.name, model.version].held() as runner:
            yield runner

    async def replace(self, model: ServedModel) -> None:
        """Exchange the model of this name and version; returns once the old one is closed.

        Requests that use the old one are answered by it.
        """
        key = model.name, model.version
        self.model(*key)
        old, self._leases[key] = self._leases[key], _Lease(self._runner(model))
        self._models[model.name][model.version] = model
        await old.unused.wait()
        await asyncio.to_thread(old.runner.close)

    def _runner(self, model: ServedModel) -> ModelRunner:
        return ModelRunner(model, self._limits, self._decoders, self._metrics)

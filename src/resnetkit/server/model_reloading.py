"""Replaces served models whose files have changed."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from resnetkit.server.model_repository import ModelRepository
from resnetkit.server.model_source import ModelSource
from resnetkit.server.served_model import ServedModel


class Reloading:
    """Opens ``sources`` anew with ``open`` when their files change, looked at every ``interval``
    seconds, and at SIGHUP. To be created before they are opened first.

    A file that cannot be served is reported to ``say``, and the model that is served remains.
    """

    def __init__(
        self,
        sources: Sequence[ModelSource],
        open: Callable[[ModelSource], ServedModel],
        interval: float,
        say: Callable[[str], None],
    ) -> None:
        self._open, self._interval, self._say = open, interval, say
        self._loaded = {source: source.stamp() for source in sources}

    async def run(self, repository: ModelRepository) -> None:
        """Watch the files until this is cancelled."""
        hangup = asyncio.Event()
        loop = asyncio.get_running_loop()
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and hasattr(signal, "SIGHUP"):
            loop.add_signal_handler(signal.SIGHUP, hangup.set)
        try:
            await self._watch(repository, hangup)
        finally:
            if in_main and hasattr(signal, "SIGHUP"):
                loop.remove_signal_handler(signal.SIGHUP)

    async def _watch(self, repository: ModelRepository, hangup: asyncio.Event) -> None:
        loaded, before = self._loaded, dict(self._loaded)
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(hangup.wait(), self._interval)
            asked = hangup.is_set()
            hangup.clear()
            for source in loaded:
                now, last = source.stamp(), before[source]
                before[source] = now
                # A file that still changes is being written.
                if asked or (now != loaded[source] and now == last):
                    loaded[source] = now
                    await self._reload(source, repository)

    async def _reload(self, source: ModelSource, repository: ModelRepository) -> None:
        try:
            model = await asyncio.to_thread(self._open, source)
        except Exception as error:
            self._say(f"{source.label} remains as it was: {error}")
            return
        await repository.replace(model)
        self._say(f"{source.label} was replaced ({model.network}, sha256 {model.digest[:12]})")

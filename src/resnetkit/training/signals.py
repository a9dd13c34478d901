"""SIGINT and SIGTERM: finish the step and save; a second signal stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM was received. The command line exits with 143."""


class Stop:
    """A pending stop signal; ``listening`` handles signals, in the main thread only.

    A second one stops at once unless ``stubborn``: torchrun and a cluster's scheduler may both send
    one.
    """

    def __init__(self, *, stubborn: bool = False) -> None:
        self._heard: int | None = None
        self._agreed = 0
        self._patient, self._stubborn = False, stubborn

    @property
    def asked(self) -> bool:
        """Whether all processes have agreed to stop."""
        return self._agreed != 0

    @property
    def heard(self) -> int:
        """The signal that this process has received, or 0."""
        return self._heard or 0

    def agree(self, number: int) -> None:
        """Record the signal, or 0, on which all processes have agreed.

        Only this decides between steps: a signal may arrive in one process after all were asked,
        and that process would then wait for the others elsewhere.
        """
        self._agreed = number

    def check(self) -> None:
        """Raise ``KeyboardInterrupt`` or ``Terminated`` if a signal is pending."""
        if number := self._agreed or self._heard:
            raise _error(number)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM; they raise at once, except ``patiently``."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[signal.Signals, Any] = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            # Background processes may be set to ignore them.
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, self._hear)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Delay the first signal until ``check``, which is also called at the end."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False
        self.check()

    def _hear(self, number: int, _: FrameType | None) -> None:
        if not self._patient or (self._heard is not None and not self._stubborn):
            raise _error(number)
        self._heard = number


def _error(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()

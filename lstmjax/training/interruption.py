"""Signals that end a process, held back until a training step has ended and its state is saved.

A handler only sets a flag: an exception raised by a handler may be lost in a callback of JAX, and would end a
step halfway.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals by which people and schedulers end a process."""


class Interrupted(KeyboardInterrupt):
    """A signal has ended training."""

    def __init__(self, number: int, step: int, saved: bool) -> None:
        kept = "; its state is saved" if saved else ""
        super().__init__(f"ended by {signal.Signals(number).name} after step {step}{kept}")
        self.number = number


class Abandoned(BaseException):
    """What a signal ends within `HeldBack.abandon`."""


class HeldBack:
    """The signal that arrived, if any."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}
        self._abandoning = False

    @contextlib.contextmanager
    def abandon(self) -> Iterator[None]:
        """Raise `Abandoned` within the block at once if a signal arrives: for what can be done again."""
        self._abandoning = True
        try:
            if self.received is not None:
                raise Abandoned
            yield
        finally:
            self._abandoning = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:  # a second one is not held back
            signal.signal(number, self._previous[number])
            signal.raise_signal(number)
            return
        self.received = number
        if self._abandoning:
            raise Abandoned

    def _install(self) -> None:
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # what nohup ignores stays ignored
                self._previous[number] = signal.signal(number, self._receive)

    def _remove(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


training: HeldBack | None = None
"""The signals held back now by `held_back`; None outside of it."""


@contextlib.contextmanager
def held_back() -> Iterator[HeldBack]:
    """Hold signals back within the block, which asks for ``received`` between its steps.

    A second signal is treated as before the block, and so is one that the block ends without asking for.
    Outside the main thread, where Python allows no handlers, nothing is held back.
    """
    global training  # noqa: PLW0603 (signals belong to the process)
    signals, outer = HeldBack(), training
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    try:
        training = signals
        signals._install()
        yield signals
    finally:
        signals._remove()
        training = outer
    if signals.received is not None:
        signal.raise_signal(signals.received)

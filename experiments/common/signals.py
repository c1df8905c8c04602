"""Signals of the command line: the process ends soon, with the status that shells expect, whatever it does.

While modules are imported, a signal ends the process at once, since compiled modules turn an exception into
another. `lstmjax.training.fit` holds signals back until its state is saved. Elsewhere there is nothing to
save, and a signal raises `KeyboardInterrupt`. Should that be lost, as in callbacks of JAX, or the program be
in compiled code for long, a thread ends the process. A second signal ends it at once.
"""

import os
import select
import signal
import sys
import threading
from types import FrameType

SECONDS = 8
"""Time until a process ends that does not react to a signal."""

SECONDS_TO_SAVE = 25
"""The same while it trains, for a long step or evaluation, and the save after it."""


_imports = True


class Ended(KeyboardInterrupt):
    """A signal outside of training."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


def install() -> None:
    """Treat signals as the module says, from now on; in the main thread, once."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) not in (signal.SIG_IGN, None):  # what nohup ignores stays ignored
            signal.signal(number, _receive)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read,), daemon=True, name="signals").start()


def imported() -> None:
    """All modules are imported: from now on a signal raises `Ended`."""
    global _imports  # noqa: PLW0603 (signals belong to the process)
    _imports = False


def _receive(number: int, frame: FrameType | None) -> None:
    ended = Ended(number)
    if _imports:
        os.write(2, f"{ended}\n".encode())
        os._exit(128 + number)
    raise ended


def _watch(read: int) -> None:
    """Wait for signals, each a byte with its number; end the process when it is time."""
    number = _next(read, None)
    while number not in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        number = _next(read, None)
    interruption = sys.modules.get("lstmjax.training.interruption")
    trains = interruption is not None and interruption.training is not None
    seconds = SECONDS_TO_SAVE if trains else SECONDS
    if trains:
        print(
            f"{signal.Signals(number).name}: ending after this step; a second signal ends at once.",
            file=sys.stderr,
            flush=True,
        )
    if _next(read, seconds) is None:
        print("it has not ended in time, and is ended.", file=sys.stderr, flush=True)
    os._exit(128 + number)


def _next(read: int, seconds: float | None) -> int | None:
    """The number of the next signal; None if there is none for so long."""
    ready, _, _ = select.select([read], [], [], seconds)
    return os.read(read, 1)[0] if ready else None

"""Ctrl-C, SIGTERM and a closed terminal as one wish to stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interruption", "interruptible"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """The wish to stop, as it comes; the main thread gets it as KeyboardInterrupt, once."""

    def __init__(self) -> None:
        self._came = threading.Event()

    def wait(self) -> None:
        """Block until somebody wants to stop; raises KeyboardInterrupt then."""
        self._came.wait()

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Take a signal: the first interrupts the main thread, the others change nothing.

        An impatient second Ctrl-C must not leave half of the children to a hard end.
        """
        if not self._came.is_set():
            self._came.set()
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Take SIGINT, SIGTERM and SIGHUP as an Interruption until the block ends; for the main thread."""
    interruption = Interruption()
    before = {number: signal.signal(number, interruption) for number in _SIGNALS}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

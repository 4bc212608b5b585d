"""The one producer of a process that nobody had to make."""

import os
import threading

from tokentide.producers.producer import UsageProducer

__all__ = ["default_producer", "set_default_producer"]

_lock = threading.RLock()
_producer: UsageProducer | None = None


def default_producer() -> UsageProducer:
    """Return the producer of this process, made from the environment at the first call.

    It closes itself at the end of the process. Raises SettingsError when the environment is wrong; what meters
    a call catches that.
    """
    global _producer
    if _producer is None:
        with _lock:
            if _producer is None:
                _producer = UsageProducer()
    return _producer


def set_default_producer(producer: UsageProducer | None) -> UsageProducer | None:
    """Use this producer from now on, or None to make one anew when needed; return the one before, still open."""
    global _producer
    with _lock:
        before, _producer = _producer, producer
    return before


def _after_fork() -> None:
    # Another thread of the parent may have held it; the producer itself starts anew by itself.
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

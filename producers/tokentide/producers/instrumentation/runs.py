"""What a callback must remember from the start of a call to its end: of at most so many calls."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Runs"]

_MOST = 10_000
"""Calls that are open at once; of more the oldest are given up: their end was never told."""

T = TypeVar("T")


class Runs(Generic[T]):
    """Open calls by key; thread-safe. `give_up` gets what is forgotten without an end."""

    def __init__(self, give_up: Callable[[T], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[object, T] = OrderedDict()
        self._give_up = give_up

    def put(self, key: object, value: T) -> bool:
        """Remember the call; return False, and change nothing, when one of this key is open."""
        with self._lock:
            if key in self._open:
                return False
            self._open[key] = value
            forgotten = self._open.popitem(last=False)[1] if len(self._open) > _MOST else None
        if forgotten is not None and self._give_up is not None:
            self._give_up(forgotten)
        return True

    def get(self, key: object) -> T | None:
        """Return what is remembered of the call."""
        return self._open.get(key)

    def take(self, key: object) -> T | None:
        """Return and forget it."""
        with self._lock:
            return self._open.pop(key, None)

"""What producers must do when the process forks or ends."""

import atexit
import os
import sys
import weakref
from typing import Protocol

__all__ = ["Resident", "abandon", "close_at_worker_exit", "register"]


class Resident(Protocol):
    """What lives as long as the process does."""

    def after_fork(self) -> None:
        """Start anew in a child process, without what belongs to the parent."""

    def close_at_exit(self) -> None:
        """Finish, within a bounded time; calling it twice is harmless."""


_residents: "weakref.WeakSet[Resident]" = weakref.WeakSet()


def register(resident: Resident) -> None:
    """Have the resident told of forks and of the end of the process, as long as it exists."""
    _residents.add(resident)


def close_at_worker_exit() -> None:
    """Have residents closed at the end of a multiprocessing worker, which skips `atexit`."""
    multiprocessing = sys.modules.get("multiprocessing")
    util = sys.modules.get("multiprocessing.util")
    if multiprocessing and util and multiprocessing.parent_process() is not None:
        util.Finalize(None, _close_all, exitpriority=0)


def abandon(client: object) -> None:
    """Keep the parent's client from ever being destroyed in this child: that would wait for dead threads."""
    import ctypes  # only a forked child needs it

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))


def _after_fork() -> None:
    for resident in list(_residents):
        resident.after_fork()


def _close_all() -> None:
    for resident in list(_residents):
        resident.close_at_exit()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

"""What producers must do when the process forks or ends."""

import atexit
import os
import sys
import weakref
from typing import Protocol

__all__ = ["Renewed", "Resident", "Tracker", "abandon", "close_at_worker_exit", "keep", "let_go", "register"]


class Resident(Protocol):
    """What lives as long as the process does."""

    def after_fork(self) -> None:
        """Start anew in a child process, without what belongs to the parent."""

    def close_at_exit(self) -> None:
        """Finish, within a bounded time; calling it twice is harmless."""


class Tracker(Resident, Protocol):
    """A resident that the service's own hooks may use in a child process before `after_fork` was called."""

    def before_fork(self) -> None:
        """Look which process this is at each use, until one of the others is called; it may be called twice."""

    def after_fork_in_parent(self) -> None:
        """Do without again."""


_residents: "weakref.WeakSet[Resident]" = weakref.WeakSet()
_kept: set[Tracker] = set()
# An item for each thread that forks at this moment.
_forks: list[None] = []


def register(resident: Resident) -> None:
    """Have the resident told of forks and of the end of the process, as long as it exists."""
    _residents.add(resident)


class Renewed:
    """A resident with nothing to finish: it begins with `after_fork`, and does so again in each child process."""

    def __init__(self) -> None:
        self.after_fork()
        register(self)

    def after_fork(self) -> None:
        """Begin: count anew, take a lock that no thread of the parent holds."""
        raise NotImplementedError

    def close_at_exit(self) -> None:
        """Nothing is kept open."""


def keep(tracker: Tracker) -> None:
    """Have it exist until it is let go, whether or not the service keeps it: it has something to do at the end."""
    _kept.add(tracker)


def let_go(tracker: Tracker) -> None:
    """Have it exist no longer than the service keeps it."""
    _kept.discard(tracker)


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


def _before_fork() -> None:
    _forks.append(None)
    for tracker in list(_kept):
        tracker.before_fork()


def _after_fork_in_parent() -> None:
    _forks.pop()
    if not _forks:
        for tracker in list(_kept):
            tracker.after_fork_in_parent()


def _after_fork() -> None:
    _forks.clear()
    for resident in list(_residents):
        resident.after_fork()


def _close_all() -> None:
    for resident in list(_residents):
        resident.close_at_exit()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork
    )

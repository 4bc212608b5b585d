"""A disk that is full for a while, for one process: whatever it writes to a file fails, as with ENOSPC."""

import resource
import threading
import time
from collections.abc import Callable
from contextlib import suppress

__all__ = ["FullDisks"]

_LOOK_SECONDS = 0.05


class FullDisks:
    """Files that cannot grow, by `RLIMIT_FSIZE` of running processes; needs Linux, and no root."""

    def __init__(self) -> None:
        self._under_way: list[threading.Thread] = []

    def fill(self, pid_of: Callable[[], int | None], seconds: float) -> bool:
        """Let every write to a file fail for so long; return whether the process was there.

        A process that is started meanwhile meets it too: the disk is still full.
        """
        is_there = pid_of() is not None
        thread = threading.Thread(target=self._keep_full, args=(pid_of, seconds), name="full-disk")
        self._under_way.append(thread)
        thread.start()
        return is_there

    def wait(self) -> None:
        """Return when there is room again."""
        while self._under_way:
            self._under_way.pop().join()

    def _keep_full(self, pid_of: Callable[[], int | None], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        filled: set[int] = set()
        while time.monotonic() < deadline:
            pid = pid_of()
            if pid is not None:
                filled.add(pid)
                _limit(pid, 0)
            time.sleep(_LOOK_SECONDS)
        for pid in filled:
            _limit(pid, resource.RLIM_INFINITY)


def _limit(pid: int, size_bytes: int) -> None:
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))

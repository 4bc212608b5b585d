"""One directory, one process: a lock file that names its holder."""

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tokentide.schemas.errors import SettingsError

__all__ = ["Occupancy"]

_POLL_SECONDS = 0.05
# How long brokers of a killed parent may take to disappear before the directory counts as taken.
_ORPHAN_SECONDS = 5.0


class Occupancy:
    """An exclusive hold on a directory, kept by an flock on a file in it that contains the holder's pid.

    The kernel drops it when the last process that has the descriptor ends, however it ends. Children get it
    with `pass_fds=[occupancy.fileno()]`; then the directory stays taken until they are gone as well.
    """

    def __init__(self, directory: Path, name: str = "tokentide.lock") -> None:
        self._path = directory / name
        self._descriptor: int | None = None

    def fileno(self) -> int:
        """The locked descriptor; an error when the directory is not held."""
        if self._descriptor is None:
            raise ValueError(f"{self._path} is not locked")
        return self._descriptor

    def wait(self) -> Self:
        """Take the directory, and block as long as another process has it."""
        self._open()
        fcntl.flock(self.fileno(), fcntl.LOCK_EX)
        self._sign()
        return self

    def take(self) -> Self:
        """Take the directory, or raise `SettingsError` with the holder's pid when a living process has it."""
        self._open()
        deadline = time.monotonic() + _ORPHAN_SECONDS
        while True:
            try:
                fcntl.flock(self.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = self._path.read_text().strip()
                if time.monotonic() < deadline and not (holder.isdigit() and psutil.pid_exists(int(holder))):
                    time.sleep(_POLL_SECONDS)
                    continue
                self.release()
                raise SettingsError(
                    f"{self._path.parent} is in use by the process {holder or 'of another user'}; "
                    "stop it or choose another data directory."
                ) from None
            self._sign()
            return self

    def release(self) -> None:
        """Let go of the directory; harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _open(self) -> None:
        if self._descriptor is not None:
            raise ValueError(f"{self._path} is locked already by this object")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise SettingsError(
                f"Cannot write to {self._path.parent} ({error.strerror}); choose another directory."
            ) from error

    def _sign(self) -> None:
        os.ftruncate(self.fileno(), 0)
        os.pwrite(self.fileno(), f"{os.getpid()}\n".encode(), 0)

"""The lock that makes one process the owner of a data path."""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from tokentide.schemas.errors import SettingsError

__all__ = ["PathLock"]


class PathLock:
    """An exclusive lock on `path`, held in the file `<path>.lock` beside it, which names the owner's pid.

    Entering never waits: a taken path is a SettingsError. The kernel frees the lock when the process ends,
    however it ends; the file stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.with_name(path.name + ".lock")
        self._descriptor = -1

    def __enter__(self) -> "PathLock":
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise SettingsError(
                f"cannot lock {self.path}: {error}; choose a folder you may write to"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise SettingsError(
                f"{self.path} is in use by process {owner}: use its port, stop it, or choose another path"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

"""The ids of one partition on a local disk: a copy of what `usage.priced` says, which may be lost at any time."""

import contextlib
import fcntl
import logging
import os
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from tokentide.schemas import DataLossError
from tokentide.streams.seen_run import Run, merged, sorted_rows, write_run

__all__ = ["Mark", "SeenStore"]

_LOGGER = logging.getLogger(__name__)
_FAN = 4
_LOCK_SECONDS = 10.0
_MANIFEST = "manifest.json"


class Mark(NamedTuple):
    """A place in the log up to which ids are remembered."""

    fence: int
    """The last source offset that is covered."""
    priced: int
    """The offset of `usage.priced` behind the record that covers it."""
    nonce: str
    """What that record, and no other of any topic, carries: by it a log that was made anew is told apart."""


class _ClosedError(Exception):
    """Ends a call whose partition was lost meanwhile."""


class _RunEntry(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    day: int
    level: int
    count: int


class _Manifest(msgspec.Struct, forbid_unknown_fields=True):
    mark: Mark
    runs: list[_RunEntry]


class SeenStore:
    """A folder of runs, and a manifest that names those that count together with their mark.

    Runs are written first and never changed; the manifest is replaced in one step. So whenever the process or the
    machine dies, ids and mark fit together: they are those of the last manifest, and the log has the rest. Files that
    no manifest names are removed. `add` and `merge` block and run in a thread, one at a time; `runs` may be read
    meanwhile. One store at a time holds a folder: a worker that has lost the partition cannot write any more.
    """

    def __init__(self, folder: Path, wait_seconds: float = _LOCK_SECONDS) -> None:
        """Open the folder; what cannot be read there is forgotten.

        Raises DataLossError when another process holds it all the time, or the disk refuses.
        """
        self._folder = folder
        self._wait_seconds = wait_seconds
        self.mark: Mark | None = None
        self.runs: tuple[Run, ...] = ()
        self._is_closed = False
        self._calling = threading.RLock()
        with self._call():
            folder.mkdir(parents=True, exist_ok=True)
            self._release = weakref.finalize(self, os.close, self._lock())
            try:
                self._load()
            except (msgspec.MsgspecError, ValueError, FileNotFoundError) as error:
                _LOGGER.warning("the ids in %s cannot be read (%s); the log has them", folder, error)
                self.clear()

    @property
    def is_closed(self) -> bool:
        """Whether nothing may be written any more."""
        return self._is_closed

    def add(self, parts: Sequence[tuple[int, Mapping[bytes, int]]], mark: Mark, oldest_day: int) -> None:
        """Remember ids by day up to the mark, and forget days before `oldest_day`.

        Every id up to the mark that is not here yet must be among the parts.
        """
        with self._call():
            runs = [run for run in self.runs if run.day >= oldest_day]
            for number, (day, ids) in enumerate(parts):
                if ids and day >= oldest_day:
                    path = self._folder / f"{day}-{mark.fence}-{number}.ids"
                    write_run(path, len(ids), [sorted_rows(ids)])
                    runs.append(Run(path, day, 0, len(ids)))
            self._commit(runs, mark)

    def merge(self) -> None:
        """Make one run of four of a size, and of all of a day that is over."""
        with self._call():
            while self.mark is not None and (chosen := _to_merge(self.runs)):
                day, level = chosen[0].day, max(run.level for run in chosen) + 1
                path = self._folder / f"{day}-{self.mark.fence}-m{level}.ids"
                count = sum(run.count for run in chosen)
                write_run(path, count, (rows for rows in merged(chosen) if self._may_write()))
                rest = [run for run in self.runs if run not in chosen]
                self._commit([*rest, Run(path, day, level, count)], self.mark)

    def clear(self) -> None:
        """Forget everything; the manifest goes first."""
        with self._call():
            self.mark, self.runs = None, ()
            (self._folder / _MANIFEST).unlink(missing_ok=True)
            self._sweep()

    def close(self) -> None:
        """Let nothing be written any more; the folder is free at once, or when a call on its way ends."""
        self._is_closed = True
        if self._calling.acquire(blocking=False):
            self._release()
            self._calling.release()

    def _may_write(self) -> bool:
        if self._is_closed:
            raise _ClosedError
        return True

    def _lock(self) -> int:
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + self._wait_seconds
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(lock)
                    raise DataLossError(
                        f"another process uses {self._folder}: give each worker a TOKENTIDE_WORKER or a "
                        "TOKENTIDE_WORK_DIR of its own"
                    ) from None
                time.sleep(0.02)
            else:
                return lock

    def _load(self) -> None:
        path = self._folder / _MANIFEST
        if not path.exists():
            self._sweep()
            return
        manifest = msgspec.json.decode(path.read_bytes(), type=_Manifest)
        self.runs = tuple(
            Run(self._folder / entry.name, entry.day, entry.level, entry.count) for entry in manifest.runs
        )
        self.mark = manifest.mark
        self._sweep()

    def _commit(self, runs: Sequence[Run], mark: Mark) -> None:
        entries = [_RunEntry(run.path.name, run.day, run.level, run.count) for run in runs]
        draft = self._folder / "manifest.draft"
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(_Manifest(mark, entries)))
            file.flush()
            os.fsync(file.fileno())
        self._sync_folder()  # the runs are there before a manifest names them
        self._may_write()
        os.replace(draft, self._folder / _MANIFEST)
        self._sync_folder()
        self.mark, self.runs = mark, tuple(runs)
        self._sweep()

    def _sweep(self) -> None:
        named = {run.path.name for run in self.runs}
        for path in self._folder.glob("*.ids"):
            if path.name not in named:
                path.unlink()

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        """Give an error of the disk a sentence; that the store was closed meanwhile is no error."""
        try:
            with self._calling, contextlib.suppress(_ClosedError):
                yield
        except OSError as error:
            raise DataLossError(
                f"event ids cannot be remembered in {self._folder} ({error.strerror}); free the disk, or set "
                "TOKENTIDE_WORK_DIR"
            ) from error
        finally:
            if self._is_closed:
                self._release()


def _to_merge(runs: Sequence[Run]) -> list[Run]:
    """Return runs that should be one, of one day; none when all is well."""
    days = defaultdict(list)
    for run in runs:
        days[run.day].append(run)
    for day, held in days.items():
        if day < max(days) and len(held) > 1:
            return held
        for level in {run.level for run in held}:
            same = [run for run in held if run.level == level]
            if len(same) >= _FAN:
                return same
    return []

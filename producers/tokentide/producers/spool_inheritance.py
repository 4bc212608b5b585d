"""What dead processes left on disk: their spools are taken over, one after another."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from tokentide.producers.cloud_event import Record
from tokentide.producers.complaints import Complaints
from tokentide.producers.spool import Spool
from tokentide.producers.spool_folder import adopt, owners
from tokentide.producers.spool_ticket import Ticket

__all__ = ["Inheritance", "warn_of_damage"]

_AGAIN_SECONDS = 10.0


class Inheritance:
    """The spools of dead processes; spools older than `most_age_seconds` are set aside.

    The caller holds `lock` around each call, except `tend` and `release`, which are for one thread at a time.
    """

    def __init__(
        self,
        most_age_seconds: float,
        lock: threading.RLock,
        complaints: Complaints,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most_age_seconds = most_age_seconds
        self._lock = lock
        self._complaints = complaints
        self._monotonic = monotonic
        self._spool: Spool | None = None
        self._look_at = 0.0
        self.looks = 0
        """How often all of them were looked for, and none was left."""

    @property
    def waiting(self) -> int:
        """How many events were found that Kafka has not."""
        return self._spool.waiting if self._spool else 0

    def next(self) -> tuple[Ticket, Record] | None:
        """Return the first event that was not handed on; None when there is none now."""
        return self._spool.next() if self._spool is not None else None

    def look_again(self) -> int:
        """Have `tend` look for them at once; return how often it did before."""
        self._look_at = 0.0
        return self.looks

    def tend(self, destination: Path, own: Path | None) -> None:
        """Give back what is delivered, and take over what is found, but not the `own` folder. Blocks."""
        spool = self._spool
        if spool is None and self._monotonic() < self._look_at:
            return
        if spool is not None and not self._is_done_with(spool, destination):
            return
        is_all_read = True
        for folder in owners(destination):
            if folder == own:
                continue
            try:
                found = adopt(folder, self._most_age_seconds)
            except OSError as error:
                is_all_read = False
                self._complaints.warn(
                    "unreadable", f"usage events of an earlier process wait, for they cannot be read: {error}"
                )
                continue
            if found is not None:
                with self._lock:
                    self._spool = found
                return
        self._look_at = self._monotonic() + _AGAIN_SECONDS
        self.looks += is_all_read
        if any(destination.glob("*.expired")):
            self._complaints.warn(
                "expired",
                f"usage events too old to be sent safely are kept in {destination} as *.expired; see "
                "`tokentide spool list`",
            )

    def _is_done_with(self, spool: Spool, destination: Path) -> bool:
        spool.tidy()
        with self._lock:
            lost, asides = spool.take_lost(), spool.take_asides()
        if lost or asides:
            with self._complaints:
                warn_of_damage(self._complaints, lost, destination)
        with self._lock:
            if not spool.is_finished:
                return False
            self._spool = None
        spool.release()
        return True

    def release(self) -> None:
        """Leave what is not delivered to the next process."""
        if self._spool is not None:
            self._spool.release()

    def forget(self) -> None:
        """Close what belongs to the parent process, in a forked child."""
        if self._spool is not None:
            self._spool.forget()


def warn_of_damage(complaints: Complaints, lost: int, destination: Path | None) -> None:
    """Say later that so many events in the spool could not be read."""
    what = (
        f"{lost} usage events in the spool could not be read" if lost else "a file in the spool is no spool's"
    )
    complaints.later("damaged", f"{what}; damaged files are kept in {destination} as *.corrupt")

"""What the supervisor runs: programs, where they stand, and how long to wait after a crash."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

__all__ = ["Backoff", "Program", "ProgramState", "ProgramStatus", "last_lines"]

_TAIL_BYTES = 8192


class ProgramState(StrEnum):
    """Where a program stands."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"  # it crashed, and will be started again
    STOPPED = "stopped"


@dataclass(frozen=True)
class Program:
    """What to run, and how.

    It is ready when it has printed a line that begins with `ready_line`; at once when that is None. Programs of a
    higher `stage` stop before those of a lower one; SIGKILL follows SIGTERM after `stop_seconds`.
    """

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    log_path: Path
    directory: Path
    ready_line: str | None = None
    stage: int = 0
    stop_seconds: float = 3.0


@dataclass(frozen=True)
class ProgramStatus:
    """A look at one program: `rss_bytes` counts its descendants too; `exit_code` is of its last end."""

    name: str
    state: ProgramState
    pid: int | None
    restarts: int
    exit_code: int | None
    rss_bytes: int
    log_path: Path


@dataclass
class Backoff:
    """How long to wait before the next start: doubled after each crash, fresh after a stable run."""

    first_seconds: float = 0.5
    most_seconds: float = 30.0
    stable_seconds: float = 60.0
    _crashes: int = field(default=0, init=False)

    def delay(self, ran_seconds: float) -> float:
        """Return the seconds to wait after a run that lasted `ran_seconds`."""
        if ran_seconds >= self.stable_seconds:
            self._crashes = 0
        # 2.0**1024 overflows; the limit is reached long before 2**32.
        delay = min(self.most_seconds, self.first_seconds * 2.0 ** min(self._crashes, 32))
        self._crashes += 1
        return delay


def last_lines(path: Path, count: int) -> str:
    """Return the last lines of a log that are not empty, or a word that there are none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        text = ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:]) or "it printed nothing"

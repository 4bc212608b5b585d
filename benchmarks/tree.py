"""A process with all its descendants: what they used, what they hold, and their end."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

_END_SECONDS = 10.0


class Tree:
    """Starts a program; its CPU is that of all processes it started, also of those that have ended."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        """Output goes to the file `log` in the folder, where the program runs."""
        self._log = folder / "log"
        with self._log.open("wb") as log:
            # A group of its own, so that all of it can be ended.
            self._process = subprocess.Popen(
                command,
                env=environment,
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._seconds: dict[int, float] = {}
        self._rss: dict[int, int] = {}
        self.peak_rss_bytes = 0

    def look(self) -> float:
        """Return the CPU seconds so far. Takes some milliseconds; what a process used after the last look is lost."""
        self._rss.clear()
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._process.pid)
            for each in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    times = each.cpu_times()
                    self._seconds[each.pid] = times.user + times.system
                    self._rss[each.pid] = each.memory_info().rss
        self.peak_rss_bytes = max(self.peak_rss_bytes, sum(self._rss.values()))
        return sum(self._seconds.values())

    def has_ended(self) -> bool:
        """Say whether the program has ended; it is not reaped, so that its CPU can still be read."""
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self, seconds: float) -> int | None:
        """Return the exit code, or None when it goes on for longer."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def last_words(self, lines: int = 3) -> str:
        """Return the end of what it printed, in one line."""
        printed = self._log.read_text(errors="replace").splitlines()
        words = (" ".join(line.split()) for line in printed if line.strip(" ^~"))
        return " | ".join(list(words)[-lines:])[-300:]

    def end(self) -> None:
        """Kill what still runs."""
        running = []
        with contextlib.suppress(psutil.NoSuchProcess):
            running = psutil.Process(self._process.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for each in running:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(running, _END_SECONDS)
        self._process.wait(_END_SECONDS)

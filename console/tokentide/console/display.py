"""What `up` shows: a table that is kept up to date on a terminal, else one line a change."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tokentide.console.program import ProgramState, ProgramStatus, last_lines

__all__ = ["Display", "status_line", "status_table"]

_COLOURS = {
    ProgramState.STARTING: "yellow",
    ProgramState.RUNNING: "green",
    ProgramState.WAITING: "red",
    ProgramState.STOPPED: "dim",
}


class Watched(Protocol):
    """What has programs to show."""

    def statuses(self) -> list[ProgramStatus]:
        """Look at all programs."""


class Display:
    """Shows the programs of one stack; a context manager, between whose ends the terminal is its own."""

    def __init__(self, directory: Path, *, console: Console | None = None) -> None:
        self._console = console or Console()
        self._directory = directory
        self._watched: Watched | None = None
        self._words = "Starting; the first start loads what is missing."
        self._shown: dict[str, str] = {}
        self._lock = threading.Lock()
        self._live = (
            Live(get_renderable=self._render, console=self._console, refresh_per_second=2, transient=False)
            if self._console.is_terminal
            else None
        )

    def watch(self, stack: Watched) -> None:
        """Show the programs of this stack from now on."""
        self._watched = stack
        if self._live is None:
            self._print(f"Data and logs: {self._directory}")

    def say(self, *sentences: str) -> None:
        """Show sentences for people, a line each; under the table they take the place of those before."""
        self._words = "\n".join(sentences)
        if self._live is None:
            for sentence in sentences:
                self._print(sentence)

    def note(self, name: str) -> None:
        """Print the line of a program that has changed, unless the table shows it anyway; from any thread."""
        if self._live is not None or self._watched is None:
            return
        for status in self._watched.statuses():
            if status.name == name:
                line = status_line(status)
                with self._lock:
                    if self._shown.get(name) != line:
                        self._shown[name] = line
                        self._print(line)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def _render(self) -> Group:
        statuses = self._watched.statuses() if self._watched is not None else []
        return Group(
            status_table(statuses),
            Text(self._words),
            Text(f"Data and logs: {self._directory}   Ctrl-C stops all.", style="dim"),
        )

    def _print(self, line: str, clock: Callable[[], time.struct_time] = time.localtime) -> None:
        self._console.print(
            f"{time.strftime('%H:%M:%S', clock())}  {line}", markup=False, highlight=False, soft_wrap=True
        )


def status_table(statuses: list[ProgramStatus]) -> Table:
    """Return the programs as a table."""
    table = Table("", "state", "pid", "memory", "restarts", "", box=None, padding=(0, 2, 0, 0))
    for status in statuses:
        table.add_row(
            status.name,
            Text(status.state, style=_COLOURS[status.state]),
            str(status.pid or ""),
            f"{status.rss_bytes / 1e6:.0f} MB" if status.rss_bytes else "",
            str(status.restarts or ""),
            Text(_trouble(status), overflow="ellipsis", no_wrap=True),
        )
    return table


def status_line(status: ProgramStatus) -> str:
    """Return the program as a line for a log."""
    pid = f" (pid {status.pid})" if status.pid is not None and status.state is ProgramState.STARTING else ""
    trouble = _trouble(status)
    return f"{status.name} is {status.state}{pid}" + (f": {trouble}" if trouble else "")


def _trouble(status: ProgramStatus) -> str:
    if status.state is not ProgramState.WAITING:
        return ""
    return f"ended with code {status.exit_code}, starts again soon: {last_lines(status.log_path, 1)}"

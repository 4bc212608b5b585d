"""What a demo shows while it runs: a live table on a terminal, else a line now and then."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

__all__ = ["DemoView", "Snapshot", "snapshot_line"]

_SECONDS_BETWEEN_LINES = 3.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far it has come: published by us, landed in ClickHouse, behind in Kafka, spent, alerted."""

    total: int
    published: int = 0
    landed: int = 0
    landed_per_second: float = 0.0
    behind: int = 0
    spend_usd: Decimal = Decimal(0)
    alerts: int = 0


class DemoView:
    """Shows how far the demo is; a context manager, between whose ends the terminal is its own. Thread-safe."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._words = ""
        self._snapshot: Snapshot | None = None
        self._began = self._next_line = clock()
        self._lock = threading.Lock()
        self._live = (
            Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=True)
            if console.is_terminal
            else None
        )

    @property
    def is_live(self) -> bool:
        """Whether there is a terminal to draw on."""
        return self._live is not None

    def say(self, words: str) -> None:
        """Say what happens now: a line, and the last line of the table."""
        self._words = words
        if self._live is None:
            self._print(words)

    def hint(self, words: str) -> None:
        """Say what changes often: on a terminal only."""
        self._words = words

    def warn(self, words: str) -> None:
        """Say what went wrong, as a line that stays."""
        self._print(words)

    def show(self, snapshot: Snapshot) -> None:
        """Show the numbers; without a terminal, every few seconds."""
        self._snapshot = snapshot
        if self._live is None:
            with self._lock:
                is_due = self._clock() >= self._next_line
                if is_due:
                    self._next_line = self._clock() + _SECONDS_BETWEEN_LINES
            if is_due:
                self._print(snapshot_line(snapshot))

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
        words = Text(self._words, style="dim")
        return Group(words) if self._snapshot is None else Group(_table(self._snapshot), words)

    def _print(self, line: str) -> None:
        seconds = self._clock() - self._began
        self._console.print(f"{seconds:5.1f} s  {line}", markup=False, highlight=False, soft_wrap=True)


def snapshot_line(snapshot: Snapshot) -> str:
    """Return the numbers as a line for a log."""
    return "  ".join(f"{name} {value}" for name, value in _numbers(snapshot))


def _table(snapshot: Snapshot) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(justify="right")
    for name, value in _numbers(snapshot):
        table.add_row(name, value)
    return table


def _numbers(snapshot: Snapshot) -> list[tuple[str, str]]:
    return [
        ("published", f"{snapshot.published:,} of {snapshot.total:,}"),
        ("in ClickHouse", f"{snapshot.landed:,}"),
        ("events/s", f"{snapshot.landed_per_second:,.0f}"),
        ("records behind", f"{snapshot.behind:,}"),
        ("spend", f"${snapshot.spend_usd:,.2f}"),
        ("alerts", f"{snapshot.alerts:,}"),
    ]

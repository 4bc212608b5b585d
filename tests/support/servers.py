"""Where a test's stack finds its servers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokentide.console.stack import Stack

__all__ = ["Servers", "stack_on"]


@dataclass(frozen=True)
class Servers:
    """Addresses for a Stack; None for the embedded ones, which it starts itself."""

    broker: str | None = None
    clickhouse_url: str | None = None


def stack_on(folder: Path, servers: Stack | None, **options: Any) -> Stack:
    """A stack on the data directory with its own servers, or workers on the servers of another, in a folder below."""
    if servers is None:
        return Stack(folder, **options)
    return Stack(
        folder / "workers", broker=servers.bootstrap, clickhouse_url=servers.clickhouse_url, **options
    )

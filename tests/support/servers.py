"""Where a test's stack finds its servers."""

from dataclasses import dataclass

__all__ = ["Servers"]


@dataclass(frozen=True)
class Servers:
    """Addresses for a Stack; None for the embedded ones, which it starts itself."""

    broker: str | None = None
    clickhouse_url: str | None = None

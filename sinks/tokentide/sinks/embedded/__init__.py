"""ClickHouse without a server to install: chDB behind ClickHouse's HTTP protocol, in a process of its own.

One process owns a data path; every other one, whatever its language, talks HTTP to it.
"""

from tokentide.sinks.embedded.server import serve

__all__ = ["serve"]

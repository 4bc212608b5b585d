"""Which event ids were seen where: two tables on disk, so that memory does not grow with the log."""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

__all__ = ["Identities", "Identity"]

# Page cache; the file itself is thrown away, so nothing about it has to survive a crash.
_SETTINGS = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA cache_size = -131072;
CREATE TABLE log (event_id TEXT, partition INTEGER, offset INTEGER, PRIMARY KEY (event_id, partition))
WITHOUT ROWID;
CREATE TABLE found (event_id TEXT, partition INTEGER, offset INTEGER) STRICT;
"""


class Identity(NamedTuple):
    """Where an event id stands in the log."""

    event_id: str
    partition: int
    offset: int


class Identities:
    """The first place of every event id in each partition of the log, and what another source says."""

    def __init__(self, folder: Path) -> None:
        self._database = sqlite3.connect(folder / "identities.sqlite3", isolation_level=None)
        self._database.executescript(_SETTINGS)
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, identity: Identity) -> bool:
        """Remember a record of the log; return whether its id is new to its partition."""
        return self._database.execute("INSERT OR IGNORE INTO log VALUES (?, ?, ?)", identity).rowcount == 1

    def add_found(self, identities: Iterable[Identity]) -> None:
        """Remember rows of the source that is compared with the log."""
        self._database.executemany("INSERT INTO found VALUES (?, ?, ?)", identities)

    def missing(self) -> Iterator[Identity]:
        """Yield what the log has and the other source has not."""
        return self._identities("SELECT * FROM log EXCEPT SELECT * FROM found")

    def surplus(self) -> Iterator[Identity]:
        """Yield what the other source has and the log has not."""
        return self._identities("SELECT * FROM found EXCEPT SELECT * FROM log")

    def repeated(self) -> Iterator[Identity]:
        """Yield what the other source has more than once."""
        return self._identities("SELECT * FROM found GROUP BY 1, 2, 3 HAVING count(*) > 1")

    def in_several_partitions(self) -> Iterator[str]:
        """Yield the event ids that the log holds in more than one partition."""
        rows = self._database.execute("SELECT event_id FROM log GROUP BY event_id HAVING count(*) > 1")
        return (event_id for (event_id,) in rows)

    def _identities(self, query: str) -> Iterator[Identity]:
        return (Identity(*row) for row in self._database.execute(query))

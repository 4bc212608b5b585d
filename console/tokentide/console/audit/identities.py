"""Which records were seen where: tables on disk, so that memory does not grow with the log."""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

__all__ = ["First", "Identities", "Identity", "Place"]

# The cache is 64 MiB. The file itself is thrown away, so nothing about it has to survive a crash.
_SETTINGS = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA cache_size = -65536;
CREATE TABLE log (event_id TEXT, partition INTEGER, offset INTEGER, event_day INTEGER, day INTEGER,
    PRIMARY KEY (event_id, partition)) WITHOUT ROWID;
CREATE TABLE again (event_id TEXT, partition INTEGER, offset INTEGER, event_day INTEGER,
    PRIMARY KEY (event_id, partition, event_day)) WITHOUT ROWID;
CREATE TABLE late (partition INTEGER, offset INTEGER, late INTEGER,
    PRIMARY KEY (partition, offset)) WITHOUT ROWID;
CREATE TABLE found (event_id TEXT, partition INTEGER, offset INTEGER) STRICT;
CREATE TABLE rejected (partition INTEGER, offset INTEGER) STRICT;
CREATE TABLE found_rejected (partition INTEGER, offset INTEGER) STRICT;
"""
_ROWS = "SELECT event_id, partition, offset FROM log UNION ALL SELECT event_id, partition, offset FROM again"


class Identity(NamedTuple):
    """Where an event id stands in the log."""

    event_id: str
    partition: int
    offset: int


class Place(NamedTuple):
    """Where a record stands in the log."""

    partition: int
    offset: int


class First(NamedTuple):
    """The first record of an id in a partition; days are counted from 1970."""

    event_day: int
    """The day of the event."""
    day: int | None
    """The day on which the id was counted last; None when unknown."""


class Identities:
    """The first place of every event id in each partition of the log, the rejected records, and what
    another source says of both.

    Some ids have further rows (`again`), and some records are marked late.
    """

    def __init__(self, folder: Path) -> None:
        self._database = sqlite3.connect(folder / "identities.sqlite3", isolation_level=None)
        self._database.executescript(_SETTINGS)
        self._database.execute("BEGIN")
        self._has_late = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, identity: Identity, event_day: int, day: int | None = None) -> bool:
        """Remember a record of the log, the day of its event and the day it came; return whether its id is new."""
        row = (*identity, event_day, day)
        return self._database.execute("INSERT OR IGNORE INTO log VALUES (?, ?, ?, ?, ?)", row).rowcount == 1

    def first(self, identity: Identity) -> First:
        """Return what is known of an id in its partition, which must have been added."""
        row = self._database.execute(
            "SELECT event_day, day FROM log WHERE event_id = ? AND partition = ?", identity[:2]
        ).fetchone()
        return First(*row)

    def count_again(self, identity: Identity, event_day: int, day: int) -> bool:
        """Remember that an id was counted once more on `day`; return whether that makes one more row.

        ClickHouse has a row for each day of an event.
        """
        first = self.first(identity)
        self._database.execute(
            "UPDATE log SET day = ? WHERE event_id = ? AND partition = ?", (day, *identity[:2])
        )
        if first.event_day == event_day:
            return False
        row = (*identity, event_day)
        return self._database.execute("INSERT OR IGNORE INTO again VALUES (?, ?, ?, ?)", row).rowcount == 1

    def add_late(self, marks: Iterable[tuple[Place, int]]) -> None:
        """Remember which records were late, and how: 1 for their day, 2 for their month; the highest stays."""
        cursor = self._database.executemany(
            "INSERT INTO late VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET late = max(late, excluded.late)",
            ((*place, late) for place, late in marks),
        )
        self._has_late = self._has_late or cursor.rowcount > 0

    def late(self, place: Place) -> int:
        """Return how late a record was; 0 when it is not marked."""
        if not self._has_late:
            return 0
        row = self._database.execute(
            "SELECT late FROM late WHERE partition = ? AND offset = ?", place
        ).fetchone()
        return 0 if row is None else row[0]

    def add_rejected(self, place: Place) -> None:
        """Remember a record of the log that is rejected."""
        self._database.execute("INSERT INTO rejected VALUES (?, ?)", place)

    def add_found(self, identities: Iterable[Identity]) -> None:
        """Remember rows of the source that is compared with the log."""
        self._database.executemany("INSERT INTO found VALUES (?, ?, ?)", identities)

    def add_found_rejected(self, places: Iterable[Place]) -> None:
        """Remember what the source that is compared holds as rejected."""
        self._database.executemany("INSERT INTO found_rejected VALUES (?, ?)", places)

    def missing(self) -> Iterator[Identity]:
        """Yield what the log has and the other source has not."""
        return self._identities(f"SELECT * FROM ({_ROWS}) EXCEPT SELECT * FROM found")

    def surplus(self) -> Iterator[Identity]:
        """Yield what the other source has and the log has not."""
        return self._identities(f"SELECT * FROM found EXCEPT SELECT * FROM ({_ROWS})")

    def repeated(self) -> Iterator[tuple[Identity, int]]:
        """Yield what the other source has more than once, and how often."""
        rows = self._database.execute("SELECT *, count(*) FROM found GROUP BY 1, 2, 3 HAVING count(*) > 1")
        return ((Identity(*identity), count) for *identity, count in rows)

    def missing_rejected(self) -> Iterator[Place]:
        """Yield the rejected records that the other source has not."""
        return self._places("SELECT * FROM rejected EXCEPT SELECT * FROM found_rejected")

    def surplus_rejected(self) -> Iterator[Place]:
        """Yield the records that only the other source holds as rejected."""
        return self._places("SELECT * FROM found_rejected EXCEPT SELECT * FROM rejected")

    def in_several_partitions(self) -> Iterator[str]:
        """Yield the event ids that the log holds in more than one partition."""
        rows = self._database.execute("SELECT event_id FROM log GROUP BY event_id HAVING count(*) > 1")
        return (event_id for (event_id,) in rows)

    def _identities(self, query: str) -> Iterator[Identity]:
        return (Identity(*row) for row in self._database.execute(query))

    def _places(self, query: str) -> Iterator[Place]:
        return (Place(*row) for row in self._database.execute(query))

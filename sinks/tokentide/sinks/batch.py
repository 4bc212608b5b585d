"""Batches: the records of one topic, gathered until an insert is worth its while."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Generic, NamedTuple, TypeVar

import pyarrow as pa

from tokentide.schemas import Rejected
from tokentide.sinks.landing import Landing, Record
from tokentide.sinks.settings import BatchSettings

__all__ = ["Batch", "Batcher", "Place", "token"]

T = TypeVar("T")

_EPOCH = datetime.fromtimestamp(0, UTC)
_LAST_MS = 253_402_300_799_999  # the year 9999


def token(topic: str, ranges: Mapping[int, tuple[int, int]], content: str = "") -> str:
    """Return the insert_deduplication_token of a batch: the same batch has the same token in every process.

    `ranges` holds the first and last offset of each partition, `content` a digest of the records: in a topic
    that was deleted and made again, the same offsets are other records, and must not be dropped as repeats.
    """
    parts = [f"{partition}:{first}-{last}" for partition, (first, last) in sorted(ranges.items())]
    return "/".join([topic, *parts, content]).rstrip("/")


class Place(NamedTuple):
    """Where a record stands, and when it was produced, in Unix milliseconds."""

    partition: int
    offset: int
    timestamp_ms: int


@dataclass(frozen=True)
class Batch(Generic[T]):
    """What one insert takes: the records' contents, their token, and the first and last offset per partition."""

    landing: Landing[T]
    topic: str
    contents: list[T]
    places: list[Place]
    """Of each content, in the same order."""
    token: str
    ranges: dict[int, tuple[int, int]]

    @property
    def table(self) -> str:
        """The table that the rows are for."""
        return self.landing.table

    def rows(self) -> pa.Table:
        """Return the rows, the same at each call. Takes tens of milliseconds: not for an event loop.

        Raises DataLossError for contents that the table's columns cannot hold.
        """
        return self.landing.build(self.contents, self.token)

    def dead_letter(self, index: int, reason: str) -> Rejected:
        """Return the rejection of one of the rows; the landing must have `single`."""
        assert self.landing.single is not None
        for content, place in zip(self.contents, self.places, strict=True):
            count = self.landing.count(content)
            if index < count:
                row, value = self.landing.single(content, index)
                return Rejected.model_construct(
                    topic=self.topic,
                    partition=place.partition,
                    offset=place.offset,
                    row=row,
                    timestamp=_moment(place.timestamp_ms),
                    reason=reason,
                    value=value,
                )
            index -= count
        raise IndexError(f"batch {self.token} has {index} rows less than that")


@dataclass
class _Part(Generic[T]):
    """What is gathered of one partition."""

    first: int
    last: int
    rows: int = 0
    bytes: int = 0
    contents: list[T] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    digest: "hashlib.blake2b" = field(default_factory=lambda: hashlib.blake2b(digest_size=16))


class Batcher(Generic[T]):
    """Gathers the records of one topic, from any number of partitions; for one thread or task at a time.

    It never inserts, commits or waits: the caller adds, asks `is_due`, takes, inserts the batch until that
    is acknowledged, and only then commits `last + 1` of each partition in `ranges`.
    """

    def __init__(
        self,
        landing: Landing[T],
        topic: str,
        settings: BatchSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._landing = landing
        self._topic = topic
        self._settings = settings or BatchSettings()
        self._clock = clock
        self._parts: dict[int, _Part[T]] = {}
        self._since = 0.0

    def __len__(self) -> int:
        """How many rows are gathered."""
        return sum(part.rows for part in self._parts.values())

    def add(self, partition: int, offset: int, value: bytes, timestamp_ms: int = 0) -> None:
        """Gather one record; one at or below the last offset of its partition is in the batch already.

        Raises DataLossError for a record that cannot be read.
        """
        part = self._parts.get(partition)
        if part is not None and offset <= part.last:
            return
        content = self._landing.decode(Record(partition, offset, value))
        if part is None:
            if not self._parts:
                self._since = self._clock()
            part = self._parts[partition] = _Part(offset, offset)
        part.last = offset
        part.rows += self._landing.count(content)
        part.bytes += len(value)
        part.contents.append(content)
        part.places.append(Place(partition, offset, timestamp_ms))
        part.digest.update(len(value).to_bytes(8, "little"))
        part.digest.update(value)

    def discard(self, partition: int) -> None:
        """Forget what is gathered of one partition."""
        self._parts.pop(partition, None)

    def is_full(self) -> bool:
        """Whether it holds as many rows, or bytes of records, as an insert may have."""
        rows = bytes_ = 0
        for part in self._parts.values():
            rows += part.rows
            bytes_ += part.bytes
        return rows >= self._settings.rows or bytes_ >= self._settings.bytes

    def is_due(self) -> bool:
        """Whether it is full, or its first record has waited long enough."""
        if not self._parts:
            return False
        return self.is_full() or self._clock() - self._since >= self._settings.seconds

    def take(self) -> Batch[T] | None:
        """Return what is gathered, due or not, and begin anew; None when there is nothing."""
        if not self._parts:
            return None
        parts, self._parts = sorted(self._parts.items()), {}
        ranges = {partition: (part.first, part.last) for partition, part in parts}
        content = hashlib.blake2b(digest_size=16)
        for _, part in parts:
            content.update(part.digest.digest())
        return Batch(
            self._landing,
            self._topic,
            [content for _, part in parts for content in part.contents],
            [place for _, part in parts for place in part.places],
            token(self._topic, ranges, content.hexdigest()),
            ranges,
        )


def _moment(milliseconds: int) -> datetime:
    """The time of a record; what no calendar holds becomes its nearest end."""
    return _EPOCH + timedelta(milliseconds=min(max(milliseconds, 0), _LAST_MS))

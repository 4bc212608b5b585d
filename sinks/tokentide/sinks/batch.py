"""Batches: the records of one topic, gathered until an insert is worth its while."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import pyarrow as pa

from tokentide.sinks.landing import Landing, Record
from tokentide.sinks.settings import BatchSettings

__all__ = ["Batch", "Batcher", "token"]

T = TypeVar("T")


def token(topic: str, ranges: Mapping[int, tuple[int, int]], content: str = "") -> str:
    """Return the insert_deduplication_token of a batch: the same batch has the same token in every process.

    `ranges` holds the first and last offset of each partition, `content` a digest of the records: in a topic
    that was deleted and made again, the same offsets are other records, and must not be dropped as repeats.
    """
    parts = [f"{partition}:{first}-{last}" for partition, (first, last) in sorted(ranges.items())]
    return "/".join([topic, *parts, content]).rstrip("/")


@dataclass(frozen=True)
class Batch:
    """What one insert takes: the rows, their table and token, and the first and last offset per partition."""

    table: str
    rows: pa.Table
    token: str
    ranges: dict[int, tuple[int, int]]


class Batcher(Generic[T]):
    """Gathers the records of one topic, from any number of partitions; for one thread or task at a time.

    It never inserts, commits or waits: the caller adds, asks `is_full`, takes, inserts the batch until that
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
        self._begin()

    def _begin(self) -> None:
        self._contents: list[T] = []
        self._ranges: dict[int, tuple[int, int]] = {}
        self._digests: dict[int, hashlib.blake2b] = {}
        self._row_count = 0
        self._since = 0.0

    def __len__(self) -> int:
        """How many rows are gathered."""
        return self._row_count

    def add(self, partition: int, offset: int, value: bytes) -> None:
        """Gather one record; one at or below the last offset of its partition is in the batch already.

        Raises DataLossError for a record that cannot be read.
        """
        first, last = self._ranges.get(partition, (offset, -1))
        if offset <= last:
            return
        content = self._landing.decode(Record(partition, offset, value))
        if not self._ranges:
            self._since = self._clock()
        self._contents.append(content)
        self._ranges[partition] = (first, offset)
        self._digests.setdefault(partition, hashlib.blake2b(digest_size=16)).update(
            len(value).to_bytes(8, "little") + value
        )
        self._row_count += self._landing.count(content)

    def is_full(self) -> bool:
        """Whether it holds enough rows, or its first record has waited long enough."""
        if not self._ranges:
            return False
        waited = self._clock() - self._since
        return self._row_count >= self._settings.rows or waited >= self._settings.seconds

    def seconds_left(self) -> float | None:
        """How long until `is_full` at the latest; None for an empty batch."""
        if not self._ranges:
            return None
        return 0.0 if self.is_full() else self._settings.seconds - (self._clock() - self._since)

    def take(self) -> Batch | None:
        """Return what is gathered, full or not, and begin anew; None when there is nothing."""
        if not self._ranges:
            return None
        content = hashlib.blake2b(digest_size=16)
        for _, digest in sorted(self._digests.items()):
            content.update(digest.digest())
        batch = Batch(
            self._landing.table,
            self._landing.rows(self._contents),
            token(self._topic, self._ranges, content.hexdigest()),
            self._ranges,
        )
        self._begin()
        return batch

"""A chunk: consecutive records of one partition, handed to an agent as one message."""

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Chunk", "Record"]


class Record(NamedTuple):
    """One Kafka record; the timestamp is in Unix milliseconds.

    In the chunks of a worker stand aiokafka's own records, which have these attributes; their headers are a list.
    """

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records of one partition in offset order, never empty."""

    topic: str
    partition: int
    records: tuple[Record, ...]

    @property
    def first(self) -> int:
        """The offset of the first record."""
        return self.records[0].offset

    @property
    def last(self) -> int:
        """The offset of the last record."""
        return self.records[-1].offset

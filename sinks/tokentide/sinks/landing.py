"""How the records of a topic become rows of a ClickHouse table: the contract, and what all tables share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokentide.schemas import DataLossError

__all__ = ["Landing", "Record", "pico_usd_column", "place_columns"]

T = TypeVar("T")

_UNREADABLE = (pa.ArrowException, msgspec.MsgspecError, ValueError)
_UNFIT = (pa.ArrowException, ValueError, OverflowError)
_LAST_UINT64 = np.uint64(2**64 - 1)
_LEAST_TOO_LARGE = 10**38


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a Kafka topic."""

    partition: int
    offset: int
    value: bytes


@dataclass(frozen=True)
class Landing(Generic[T]):
    """How the records of one topic become rows of one table.

    `read` decodes a record, or raises ValueError or the decoder's own error; `count` says how many rows it
    makes; `rows` makes one Arrow table of many: the same table for the same records, always. `single` gives one
    row of a record, by its index: the number by which Rejected names it, and a record of it alone; without
    `single` a row that ClickHouse refuses stops the sink.
    """

    table: str
    read: Callable[[Record], T]
    count: Callable[[T], int]
    rows: Callable[[Sequence[T]], pa.Table]
    single: Callable[[T, int], tuple[int, bytes]] | None = None

    def decode(self, record: Record) -> T:
        """Return the record's content.

        Raises DataLossError for what cannot be read: only our own workers write these topics, so skipping it
        would lose money.
        """
        try:
            return self.read(record)
        except _UNREADABLE as error:
            raise DataLossError(
                f"the record for {self.table} at partition {record.partition}, offset {record.offset} cannot "
                f"be read ({' '.join(str(error).split())}): upgrade this sink, or stop what else writes there"
            ) from error

    def build(self, contents: Sequence[T], where: str) -> pa.Table:
        """Return the rows of many records; `where` names them in a message.

        Raises DataLossError for a value that the columns cannot hold.
        """
        try:
            return self.rows(contents)
        except _UNFIT as error:
            raise DataLossError(
                f"the records {where} do not fit into {self.table} ({' '.join(str(error).split())}): "
                "upgrade this sink, or stop what else writes there"
            ) from error


def place_columns(
    partitions: npt.ArrayLike, offsets: npt.ArrayLike
) -> tuple["pa.Array[Any]", "pa.Array[Any]", "pa.Array[Any]"]:
    """Return the columns partition, offset, and version = 2^64 - 1 - offset: the lowest offset wins."""
    offset = np.asarray(offsets, dtype=np.uint64)
    return (
        pa.array(np.asarray(partitions, dtype=np.uint32)),
        pa.array(offset),
        pa.array(_LAST_UINT64 - offset),
    )


def pico_usd_column(amounts: Sequence[int]) -> "pa.Array[Any]":
    """Return whole pico-USD as decimal128(38, 12) USD, exactly: the integer is the decimal's own storage.

    Raises ValueError for an amount of more than 38 digits.
    """
    if amounts and max(max(amounts), -min(amounts)) >= _LEAST_TOO_LARGE:
        raise ValueError("an amount of money has more than 38 digits")
    stored = b"".join([amount.to_bytes(16, "little", signed=True) for amount in amounts])
    return pa.Array.from_buffers(pa.decimal128(38, 12), len(amounts), [None, pa.py_buffer(stored)])

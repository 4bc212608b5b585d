"""Stage `pricing`: `usage.events` to `usage.priced` and `usage.rejected`."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa

from tokentide.schemas import Rejected, TopicNames
from tokentide.schemas.chunk import Chunk
from tokentide.schemas.columns import read_chunk, write_chunk
from tokentide.streams.coverage import coverage, coverage_headers
from tokentide.streams.log import Log
from tokentide.streams.outbox import Delivery, Outbox
from tokentide.streams.prices import Catalogue
from tokentide.streams.pricing import price_chunk
from tokentide.streams.seen import SeenIds

__all__ = ["PricingStage"]

_MAX_RECORD_BYTES = 2_000_000
_MAX_CHUNKS_ON_THE_WAY = 16


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class _Memory:
    """What is known of one partition: its ids, and the last offset that `usage.priced` covers without a gap."""

    seen: SeenIds
    fence: int = -1
    on_the_way: list[tuple[int, Delivery]] = field(default_factory=list)


class PricingStage:
    """Validates, dedupes and prices; `usage.priced` itself is the changelog of what it remembers."""

    def __init__(
        self,
        topics: TopicNames,
        outbox: Outbox,
        log: Log,
        catalogue: Catalogue,
        *,
        committed: Callable[[str, int], int | None],
        dedupe_days: int,
        max_future_seconds: int,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        """`committed` returns the group's committed offset of a topic and partition; it may block."""
        self.topic = topics.events
        self._topics = topics
        self._outbox = outbox
        self._log = log
        self._catalogue = catalogue
        self._committed = committed
        self._dedupe_days = dedupe_days
        self._max_future_seconds = max_future_seconds
        self._clock = clock
        self._memories: dict[int, _Memory] = {}

    async def open(self, partition: int) -> int | None:
        """Read the ids and the fence back from `usage.priced`.

        Where its retention has removed everything, only the group knows where to go on.
        """
        memory = await asyncio.to_thread(self._recover, partition)
        position = memory.fence + 1 if memory.fence >= 0 else None
        if position is None:
            position = await asyncio.to_thread(self._committed, self.topic, partition)
        self._memories[partition] = memory
        return position

    def close(self, partition: int) -> None:
        """Forget the partition."""
        self._memories.pop(partition, None)

    async def take(self, chunk: Chunk) -> None:
        """Price the chunk and send it on its way."""
        memory = self._memories[chunk.partition]
        priced = price_chunk(chunk, memory.seen, self._catalogue, self._clock(), self._max_future_seconds)
        if priced.rejected:
            refusals = self._outbox.group()
            for refusal in priced.rejected:
                self._reject(refusals, refusal)
            # `usage.priced` is the memory: what it covers is not looked at again, so the refusals come first.
            await refusals.delivered()
            if self._memories.get(chunk.partition) is not memory:
                return  # closed meanwhile: whoever owns the partition now prices the chunk
        group = self._outbox.group()
        for value, first, last in _records(priced.rows, chunk.first, chunk.last):
            group.send(
                self._topics.priced, value, partition=chunk.partition, headers=coverage_headers(first, last)
            )
        memory.fence = chunk.last
        memory.on_the_way.append((chunk.last + 1, group))
        if len(memory.on_the_way) > _MAX_CHUNKS_ON_THE_WAY:
            await memory.on_the_way[0][1].delivered()

    async def flush(self) -> Mapping[int, int]:
        """Wait for what is on its way."""
        offsets = {}
        for partition, memory in list(self._memories.items()):
            sent, memory.on_the_way = memory.on_the_way, []
            for offset, group in sent:
                await group.delivered()
                offsets[partition] = offset
        return offsets

    drain = flush

    def _reject(self, group: Delivery, refusal: Rejected) -> None:
        group.send(
            self._topics.rejected,
            refusal.model_dump_json().encode(),
            key=f"{refusal.partition}:{refusal.offset}".encode(),
            partition=refusal.partition,
        )

    def _recover(self, partition: int) -> _Memory:
        """Fold the whole partition of `usage.priced`.

        A record that begins beyond the fence was sent by a worker that had lost the partition and some of its own
        records: its offsets are covered again behind it.
        """
        memory = _Memory(SeenIds(self._dedupe_days))
        is_first = True
        for record in self._log.read(self._topics.priced, partition, 0):
            first, last = coverage(record, f"{self._topics.priced}[{partition}]")
            if first > memory.fence + 1 and not is_first:
                continue
            is_first = False
            if last <= memory.fence or record.value is None:
                continue
            ids = read_chunk(record.value, ["event_id", "source_offset"])
            pairs = zip(ids["event_id"].to_pylist(), ids["source_offset"].to_pylist(), strict=True)
            memory.seen.remember(pairs, record.timestamp)  # type: ignore[arg-type]  # neither column has nulls
            memory.fence = last
        return memory


def _records(rows: pa.RecordBatch, first: int, last: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the rows as records with the offsets they cover, halved until each fits into a Kafka record."""
    value = write_chunk(rows)
    if len(value) <= _MAX_RECORD_BYTES or rows.num_rows < 2:
        yield value, first, last
        return
    middle = rows.num_rows // 2
    border = rows["source_offset"][middle].as_py()
    yield from _records(rows.slice(0, middle), first, border - 1)
    yield from _records(rows.slice(middle), border, last)

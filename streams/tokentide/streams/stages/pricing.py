"""Stage `pricing`: `usage.events` to `usage.priced` and `usage.rejected`."""

import asyncio
import bisect
import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from tokentide.schemas import DataLossError, Rejected, TopicNames
from tokentide.schemas.chunk import Chunk
from tokentide.schemas.columns import read_chunk, write_chunk
from tokentide.schemas.gauge import Gauge
from tokentide.streams.clock import EventClock, Grace
from tokentide.streams.coverage import Trace, coverage, coverage_headers, event_clock, trace
from tokentide.streams.log import Log
from tokentide.streams.outbox import Delivery, Outbox
from tokentide.streams.prices import Catalogue
from tokentide.streams.pricing import price_chunk
from tokentide.streams.seen import SPILLED_IDS, SeenIds
from tokentide.streams.seen_store import Mark, SeenStore

__all__ = ["PricingStage"]

_LOGGER = logging.getLogger(__name__)
_MAX_RECORD_BYTES = 2_000_000
_NOTHING_CLOSED = EventClock()
_DEFAULT_GRACE = Grace()


def _now() -> datetime:
    return datetime.now(UTC)


class _Sent(NamedTuple):
    """A chunk that was sent: its last offset, the nonce of its last record, and the wait for that record."""

    last: int
    nonce: str
    group: Delivery


@dataclass
class _Memory:
    """What is known of one partition: its ids, and the last offset that `usage.priced` covers without a gap."""

    seen: SeenIds
    fence: int = -1
    clock: EventClock = _NOTHING_CLOSED
    """What is closed for the chunk that comes next."""
    sending: Delivery | None = None
    """The newest record that was sent."""
    unflushed: _Sent | None = None
    """The newest chunk that was sent whole, until a flush names it."""
    writing: "asyncio.Task[None] | None" = None


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
        seen_dir: Path,
        dedupe_days: int,
        max_future_seconds: int,
        grace: Grace = _DEFAULT_GRACE,
        spilled_ids: int = SPILLED_IDS,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        """`committed` returns the group's committed offset of a topic and partition; it may block.

        `seen_dir` belongs to this worker alone; so many ids are worth a write to it.
        """
        self.topic = topics.events
        self._topics = topics
        self._outbox = outbox
        self._log = log
        self._catalogue = catalogue
        self._committed = committed
        self._seen_dir = seen_dir
        self._spilled_ids = spilled_ids
        self._dedupe_days = dedupe_days
        self._max_future_seconds = max_future_seconds
        self._grace = grace
        self._clock = clock
        self._memories: dict[int, _Memory] = {}
        self._duplicates = self._rejected = 0

    async def open(self, partition: int) -> int | None:
        """Open the ids on disk, and read what `usage.priced` has beyond them.

        Where its retention has removed everything, only the group knows where to go on. Raises DataLossError when the
        topic ends before what was read of it: it is another one.
        """
        is_cancelled = threading.Event()
        try:
            memory = await asyncio.to_thread(self._recover, partition, is_cancelled)
        except asyncio.CancelledError:
            is_cancelled.set()
            raise
        position = memory.fence + 1 if memory.fence >= 0 else None
        try:
            if position is None:
                position = await asyncio.to_thread(self._committed, self.topic, partition)
            else:
                await asyncio.to_thread(self._check_end, partition, position)
        except BaseException:
            memory.seen.close()
            raise
        self._memories[partition] = memory
        return position

    def close(self, partition: int) -> None:
        """Forget the partition."""
        memory = self._memories.pop(partition, None)
        if memory is not None:
            memory.seen.close()

    async def take(self, chunk: Chunk) -> None:
        """Price the chunk and send it on its way: refusals first, for `usage.priced` speaks for them.

        One record of a partition is on its way at a time: librdkafka sends, and Kafka stores, a record though the
        one before it was lost, and then `usage.priced` had a gap. Kafka acknowledges a chunk while the next one is
        priced.
        """
        memory = self._memories[chunk.partition]
        now = self._clock()
        priced = price_chunk(chunk, memory.seen, self._catalogue, now, self._max_future_seconds, memory.clock)
        # A record whose own time is wrong must not close what is open.
        newest = min(priced.newest, int((now.timestamp() + self._max_future_seconds) * 1000))
        clock = memory.clock.met(newest)
        if priced.rejected:
            refusals = self._outbox.group()
            for refusal in priced.rejected:
                self._reject(refusals, refusal)
            # `usage.priced` is the memory: what it covers is not looked at again, so the refusals come first.
            await refusals.delivered()
            if self._memories.get(chunk.partition) is not memory:
                return  # closed meanwhile: whoever owns the partition now prices the chunk
        nonce = secrets.token_hex(8)
        for value, first, last in _records(priced.rows, chunk.first, chunk.last):
            if memory.sending is not None:
                await memory.sending.delivered()
                if self._memories.get(chunk.partition) is not memory:
                    return
            headers = coverage_headers(first, last, Trace(memory.seen.newest_day, nonce), clock)
            memory.sending = group = self._outbox.group()
            group.send(self._topics.priced, value, partition=chunk.partition, headers=headers)
        self._duplicates += priced.duplicates
        self._rejected += len(priced.rejected)
        memory.fence = chunk.last
        memory.clock = clock.closing(self._grace)
        memory.unflushed = _Sent(chunk.last, nonce, group)
        if memory.seen.is_full and memory.writing is not None:
            await asyncio.wait([memory.writing])

    async def flush(self) -> Mapping[int, int]:
        """Wait for what is on its way; only then may its ids go to the disk, which is not waited for."""
        offsets = {}
        for partition, memory in list(self._memories.items()):
            sent, memory.unflushed = memory.unflushed, None
            if sent is not None:
                await sent.group.delivered()
                offsets[partition] = sent.last + 1
            self._write(memory, sent)
        return offsets

    drain = flush

    def gauges(self) -> Iterator[Gauge]:
        """Yield how many ids are remembered, and how many records were dropped or refused."""
        for partition, memory in self._memories.items():
            labels = {"partition": str(partition)}
            yield Gauge("tokentide_seen_ids", {**labels, "where": "memory"}, memory.seen.in_memory)
            on_disk = len(memory.seen) - memory.seen.in_memory
            yield Gauge("tokentide_seen_ids", {**labels, "where": "disk"}, on_disk)
            yield Gauge("tokentide_seen_files", labels, memory.seen.files)
        yield Gauge("tokentide_duplicates_total", {}, self._duplicates)
        yield Gauge("tokentide_rejected_total", {}, self._rejected)

    def _write(self, memory: _Memory, sent: _Sent | None) -> None:
        """Begin to move ids up to a delivered chunk to the disk, when they are many; raises what it met before."""
        if memory.writing is not None:
            if not memory.writing.done():
                return
            memory.writing.result()
            memory.writing = None
        place = None if sent is None else sent.group.last_offset(self._topics.priced)
        if sent is None or place is None:
            return
        if memory.seen.set_aside(Mark(sent.last, place + 1, sent.nonce)):
            memory.writing = asyncio.create_task(asyncio.to_thread(memory.seen.write))

    def _reject(self, group: Delivery, refusal: Rejected) -> None:
        group.send(
            self._topics.rejected,
            refusal.model_dump_json().encode(),
            key=f"{refusal.partition}:{refusal.offset}".encode(),
            partition=refusal.partition,
        )

    def _check_end(self, partition: int, position: int) -> None:
        end = self._log.end(self.topic, partition)
        if end < position:
            raise DataLossError(
                f"{self.topic}[{partition}] ends at offset {end}, but {self._topics.priced} holds its rows up to "
                f"{position - 1}: the topic was deleted or lost records; use new topic names (TOKENTIDE_TOPIC_...) "
                "and another TOKENTIDE_METER_ID"
            )

    def _recover(self, partition: int, is_cancelled: threading.Event) -> _Memory:
        store = SeenStore(self._seen_dir / f"{self._topics.priced}-{partition}")
        try:
            memory = self._fold(partition, store, is_cancelled)
            if memory is None:
                _LOGGER.warning(
                    "the event ids on disk are not those of %s[%d] as it is now; all of it is read again",
                    self._topics.priced,
                    partition,
                )
                store.clear()
                memory = self._fold(partition, store, is_cancelled)
            assert memory is not None, "without a mark there is nothing to compare"
        except BaseException:
            store.close()
            raise
        return memory

    def _fold(self, partition: int, store: SeenStore, is_cancelled: threading.Event) -> _Memory | None:
        """Fold `usage.priced` from the store's mark on; None when the mark is not in this log.

        A record that begins beyond the fence was sent by a worker that had lost the partition and some of its own
        records: its offsets are covered again behind it. If they are not, the mark is of such a worker.
        """
        mark = store.mark
        seen = SeenIds(self._dedupe_days, store, self._spilled_ids)
        memory = _Memory(seen, -1 if mark is None else mark.fence)
        is_marked = is_first = mark is None
        ahead = -1
        for record in self._log.read(self._topics.priced, partition, 0 if mark is None else mark.priced - 1):
            if is_cancelled.is_set():
                raise InterruptedError(f"{self.topic}[{partition}] is in other hands")
            first, last = coverage(record, f"{self._topics.priced}[{partition}]")
            traced = trace(record)
            clock = event_clock(record)
            if not is_marked:
                if mark != Mark(last, record.offset + 1, traced.nonce):
                    return None
                is_marked = True
                memory.clock = clock
                continue
            if first > memory.fence + 1 and not is_first:
                ahead = max(ahead, last)
                continue
            is_first = False
            memory.clock = memory.clock.joined(clock)
            if last <= memory.fence or record.value is None:
                continue
            ids: Any = read_chunk(record.value, ["event_id", "source_offset"])  # neither column has nulls
            offsets = ids["source_offset"].to_pylist()
            new = bisect.bisect_right(offsets, memory.fence)
            memory.seen.remember(ids["event_id"].to_pylist()[new:], offsets[new:], traced.day)
            memory.fence = last
            if memory.seen.set_aside(Mark(last, record.offset + 1, traced.nonce)):
                memory.seen.write()
        if not is_marked or (mark is not None and ahead > memory.fence):
            return None
        memory.clock = memory.clock.closing(self._grace)
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

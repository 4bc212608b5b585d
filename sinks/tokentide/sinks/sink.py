"""A sink: one topic landing in one ClickHouse table, as the stage that a worker runs."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import pyarrow as pa

from tokentide.schemas import DataLossError
from tokentide.schemas.chunk import Chunk
from tokentide.schemas.gauge import Gauge
from tokentide.sinks.alerts import ALERTS
from tokentide.sinks.batch import Batch, Batcher
from tokentide.sinks.bisection import store_in_parts
from tokentide.sinks.dead_letters import Refuse
from tokentide.sinks.landing import Landing
from tokentide.sinks.rejected import REJECTED
from tokentide.sinks.settings import BatchSettings, SinkSettings
from tokentide.sinks.spend import SPEND
from tokentide.sinks.usage import USAGE
from tokentide.sinks.writer import ClickHouseWriter

__all__ = ["Committed", "Sink", "sink_stages"]

T = TypeVar("T")

Committed = Callable[[str, int], int | None]
"""Returns the offset that the group has committed for a topic and partition, None for none; it may block."""


class Sink(Generic[T]):
    """Inserts first, then lets the worker commit: at least once, and the tables make that once.

    At most one batch is on its way to ClickHouse and one is gathered. While ClickHouse is down the first is
    tried again for ever, the identical rows with the identical token, and `take` waits: the worker stops
    fetching, and nothing is dropped.

    Why no row is lost: per partition, batches are taken in the order of offsets, one at a time, and `flush`
    names an offset only after ClickHouse has acknowledged every record below it. So all below the group's
    committed offset is stored, by whichever worker, and `open` makes the log come again from there. What was
    gathered of a partition before that must go: it may begin beyond the offset that comes next, and then
    those below would be taken for known and skipped, and committed as stored. What is on its way already
    cannot be called back; it lands a second time with the records that come again, which the tables' keys
    make one row, but it acknowledges nothing for a partition that was closed meanwhile.

    A row that ClickHouse refuses for what is in it is looked for by halves, all others are stored, and `refuse`
    is told of it before its offset is acknowledged. A crash in between does all of that again: the same rows land
    on the same keys, the same rejection has the same name.
    """

    def __init__(
        self,
        topic: str,
        landing: Landing[T],
        writer: ClickHouseWriter,
        committed: Committed,
        settings: BatchSettings | None = None,
        *,
        refuse: Refuse | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without `refuse`, or `single` of the landing, a row that is refused stops the sink."""
        self.topic = topic
        self._landing = landing
        self._writer = writer
        self._committed = committed
        self._settings = settings or BatchSettings()
        self._refuse = refuse if landing.single is not None else None
        self._clock = clock
        self._batcher = Batcher(landing, topic, self._settings, clock)
        # One object for each time that a partition is opened.
        self._terms: dict[int, object] = {}
        self._room = asyncio.Event()
        self._insertion: asyncio.Task[None] | None = None
        # The offsets that the batch on its way will make durable.
        self._awaited: dict[int, int] = {}
        self._durable: dict[int, int] = {}
        self._rows_on_the_way = self._rows_stored = self._rows_refused = 0
        self._stop = threading.Event()
        # A thread of its own: a long retry must not use up the loop's, and it keeps one client.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"insert-{landing.table}")

    async def open(self, partition: int) -> int | None:
        """Forget the partition, and return the group's committed offset: there the log must go on."""
        self.close(partition)
        position = await asyncio.to_thread(self._committed, self.topic, partition)
        self._terms[partition] = object()
        return position

    def close(self, partition: int) -> None:
        """Drop what is gathered of the partition; what is on its way may land, but acknowledges nothing of it."""
        self._terms.pop(partition, None)
        self._batcher.discard(partition)
        self._awaited.pop(partition, None)
        self._durable.pop(partition, None)
        self._room.set()

    async def take(self, chunk: Chunk) -> None:
        """Gather the chunk's records; waits while the batch is full and the one before it is on its way.

        Raises DataLossError for a record that cannot be read.
        """
        partition = chunk.partition
        term = self._terms[partition]
        for record in chunk.records:
            while self._batcher.is_full():
                self._room.clear()
                await self._room.wait()
                # Closed while we waited: the rest of the chunk would begin in the middle of what comes again.
                if self._terms.get(partition) is not term:
                    return
            if record.value is None:
                raise DataLossError(
                    f"{self.topic}[{partition}] holds a record without a value at offset {record.offset}, "
                    f"which is no row of {self._landing.table}: stop what else writes there"
                )
            self._batcher.add(partition, record.offset, record.value, record.timestamp)

    async def flush(self) -> Mapping[int, int]:
        """Insert what is due: a batch that is full, or whose first record has waited long enough.

        Returns for each open partition up to which offset (exclusive) ClickHouse has acknowledged. A call that
        is cancelled leaves the insert on its way, and the next call waits for it.
        Raises StorageRefusedError, and ServiceUnavailableError once `stop` is called; then every call does.
        """
        until = self._clock() + self._settings.seconds
        while self._insertion is not None or self._batcher.is_due():
            await self._insert()
            if self._clock() >= until:
                break  # the worker must be able to commit now and then, however far behind we are
        return dict(self._durable)

    async def drain(self) -> Mapping[int, int]:
        """Insert at once all that is gathered now, due or not; else like `flush`. For a revoke and the end."""
        if self._insertion is not None:
            await self._insert()
        await self._insert()
        return dict(self._durable)

    def gauges(self) -> Iterator[Gauge]:
        """Yield how many rows wait, and how many were stored or refused."""
        topic = {"topic": self.topic}
        yield Gauge("tokentide_rows_gathered", topic, len(self._batcher))
        yield Gauge("tokentide_rows_on_the_way", topic, self._rows_on_the_way)
        yield Gauge("tokentide_rows_stored_total", topic, self._rows_stored)
        yield Gauge("tokentide_rows_refused_total", topic, self._rows_refused)

    def stop(self) -> None:
        """Let an insert that is tried again give up."""
        self._stop.set()
        self._thread.shutdown(wait=False)

    async def _insert(self) -> None:
        """Begin an insert of what is gathered, unless one is on its way; wait for its end."""
        if self._insertion is None:
            rows = len(self._batcher)
            batch = self._batcher.take()
            if batch is None:
                return
            self._awaited = {partition: last + 1 for partition, (_, last) in batch.ranges.items()}
            self._rows_on_the_way = rows
            self._insertion = asyncio.create_task(self._store(batch))
            self._room.set()
        # Shielded: cancelled with us, the same rows would be sent again while the thread still sends them.
        await asyncio.shield(self._insertion)

    async def _store(self, batch: Batch[T]) -> None:
        refused = await asyncio.get_running_loop().run_in_executor(self._thread, self._send, batch)
        self._rows_stored += self._rows_on_the_way - refused
        self._rows_refused += refused
        self._rows_on_the_way = 0
        self._durable.update(self._awaited)
        self._awaited = {}
        self._insertion = None

    def _send(self, batch: Batch[T]) -> int:
        """Insert the batch; return how many of its rows were refused."""
        rows = batch.rows()
        if not rows.num_rows:
            return 0

        def insert(part: pa.Table, token: str) -> None:
            self._writer.insert_with_retry(batch.table, part, token, self._stop)

        if self._refuse is None:
            insert(rows, batch.token)
            return 0
        refused = store_in_parts(insert, rows, batch.token)
        if refused:
            self._refuse([batch.dead_letter(index, reason) for index, reason in refused])
        return len(refused)


def sink_stages(
    settings: SinkSettings, committed: Committed, refuse: Refuse | None = None
) -> list[Sink[Any]]:
    """Return the four sinks of a worker: priced rows, totals, alerts and rejected records.

    `refuse` takes the rows that ClickHouse refuses; without it such a row stops the sink.
    """
    writer = ClickHouseWriter(settings.clickhouse)
    topics = settings.topics
    return [
        Sink(topics.priced, USAGE, writer, committed, settings.batch, refuse=refuse),
        Sink(topics.spend, SPEND, writer, committed, settings.batch, refuse=refuse),
        Sink(topics.alerts, ALERTS, writer, committed, settings.batch, refuse=refuse),
        Sink(topics.rejected, REJECTED, writer, committed, settings.batch, refuse=refuse),
    ]

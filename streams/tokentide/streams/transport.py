"""Faust's transport, changed in four places: it hands out chunks, fresh ones, commits what we say, and drops nothing.

aiokafka keeps what it is good at, the group and the fetching. What Faust 0.15.3 decides by itself about offsets
is wrong around gaps, so here it decides nothing: see docs/exactness.md.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Protocol

import faust
from aiokafka import TopicPartition  # type: ignore[import-untyped]
from aiokafka.consumer import fetcher  # type: ignore[import-untyped]
from aiokafka.errors import IllegalStateError  # type: ignore[import-untyped]
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from tokentide.schemas.chunk import Chunk, Record
from tokentide.streams.backlog import Backlog
from tokentide.streams.pace import Pace

__all__ = ["Assignments", "ChunkTransport", "RawSchema"]

_CHUNKS_SECONDS = 0.03
_FRESH_SECONDS = 0.02
_WAIT_SECONDS = 0.05


class Assignments(Protocol):
    """What the transport asks of the worker; every method is called in the event loop's thread."""

    topics: Sequence[str]
    """In the order of the pipeline."""
    chunk_records: int
    pace: Pace
    """Of the fetches."""

    def assigned(self, partitions: set[TP], generation: int) -> None:
        """These partitions, and no others, belong to this worker from now on."""

    async def revoked(self, partitions: set[TP]) -> None:
        """Make durable what was done, for these partitions are about to go."""

    def committable(self) -> dict[TP, int]:
        """Return the offset to commit of each partition that has one."""


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """Hands out records as the parser made them: they have what Record has. aiokafka would copy each."""

    def __iter__(self) -> Iterator[Any]:
        records: Iterator[Any] = self._records_iterator
        return records

    def _consumer_record(self, _: Any, record: Any) -> Any:
        return record


# The fetcher has no other way in. The consumers of a worker's app are the only ones of aiokafka in its process.
fetcher.PartitionRecords = _PartitionRecords


class ChunkConsumer(driver.Consumer):
    """Yields one message a chunk: what was fetched of one partition, cut at `chunk_records`."""

    transport: "ChunkTransport"

    def __init__(self, transport: "ChunkTransport", *args: Any, **kwargs: Any) -> None:
        super().__init__(transport, *args, **kwargs)
        assignments = transport.assignments
        self._backlog = Backlog(assignments.topics, assignments.chunk_records)
        self._enough = 2 * assignments.chunk_records
        self._pace = assignments.pace
        self._generation = 0
        self._fetched_at = time.monotonic()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Tell the worker, then Faust."""
        self._backlog.clear()
        self.transport.assignments.assigned(assigned, generation_id)
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let the worker finish and commit while this member still owns the partitions, then tell Faust."""
        await self.transport.assignments.revoked(revoked)
        await self.commit()
        await super().on_partitions_revoked(revoked)

    def end_offset(self, tp: TP) -> int | None:
        """Return where the partition's log ended at its last fetch, without asking Kafka; None while unknown."""
        # The driver's thread may assign anew meanwhile; then aiokafka asserts, or finds nothing.
        with contextlib.suppress(AssertionError, AttributeError, ConsumerNotStarted):
            return self.highwater(tp)
        return None

    def group_error(self) -> BaseException | None:
        """Return what ended the work of the group's coordinator; None while there is none.

        aiokafka tells it to whoever fetches, and waits for that. Faust fetches nothing without partitions: without
        this a worker whose join was refused stood still for ever.
        """
        coordinator = getattr(getattr(self._thread, "_consumer", None), "_coordinator", None)
        task: asyncio.Task[None] | None = getattr(coordinator, "_coordination_task", None)
        if task is not None and task.done() and not task.cancelled() and task.exception() is not None:
            return task.exception()
        error: BaseException | None = getattr(coordinator, "_pending_exception", None)
        return error

    async def perform_seek(self) -> None:
        """Go back to what is committed, and to the beginning where nothing is.

        aiokafka leaves a partition without a commit where it stands. What was fetched of it before this worker knew
        of a new assignment is thrown away, so it stayed unread until its next record.
        """
        self._backlog.clear()
        await super().perform_seek()
        uncommitted = [tp for tp in self.assignment() if not self._read_offset.get(tp)]
        if uncommitted:
            await self._thread.call_thread(self._rewind, uncommitted)

    async def _rewind(self, partitions: list[TP]) -> None:
        """Have the first offset asked for of each that is still ours, without waiting; in the driver's thread."""
        consumer: Any = self._thread._ensure_consumer()
        places = consumer.assignment().intersection(TopicPartition(*tp) for tp in partitions)
        consumer._fetcher.request_offset_reset(places, fetcher.OffsetResetStrategy.EARLIEST)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """Fetch, and yield for a while of what there is; stock Faust's checks, once a chunk instead of once a record.

        aiokafka fetches anew as soon as it has handed out what it had. After a long while of other work that is old,
        and what came since would wait for one while more: so it is asked twice.
        """
        if not self._backlog:
            await asyncio.sleep(self._pace.pause())
        self._pace.begin()
        is_old = time.monotonic() - self._fetched_at > _FRESH_SECONDS
        await self._fetch(0.0 if self._backlog else timeout)
        if is_old and 0 < len(self._backlog) < self._enough:
            await self._fetch(_WAIT_SECONDS)
        self._fetched_at = time.monotonic()
        for place, records in self._backlog.chunks(_CHUNKS_SECONDS):
            yield place, _message(place, records, self._generation)
            if self.should_stop or not self._is_current():
                return

    async def _fetch(self, timeout: float) -> None:
        """Add to the backlog what can be had; nothing of an earlier assignment stays in it."""
        fetched, active = await self._wait_next_records(timeout)
        if not self._is_current():
            self._backlog.clear()
        self._generation = self.app.consumer_generation_id
        if fetched is None or self.should_stop:
            return
        if not self.flow_active:
            # Partitions may go during this seek; the recovery of the new assignment seeks again.
            with contextlib.suppress(IllegalStateError):
                await self.perform_seek()
            return
        for topic_partition, records in fetched.items():
            place = TP(*topic_partition)
            if active is None or place in active or place in self._buffered_partitions:
                self._backlog.add(place, records)

    def _is_current(self) -> bool:
        """Whether the backlog is of partitions that this worker still has."""
        is_current: bool = self.flow_active and self._generation == self.app.consumer_generation_id
        return is_current

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        wanted = self.assignment() if active_partitions is None else active_partitions
        wanted = wanted - self._backlog.full()
        # aiokafka takes an empty set for all of them.
        return await super()._getmany(wanted, timeout) if wanted else {}

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return iter(self.transport.assignments.committable())

    def _new_offset(self, tp: TP) -> int | None:
        """Return what the worker says is durable. Acks mean nothing here; their bookkeeping is thrown away."""
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self.transport.assignments.committable().get(tp)

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        """Commit; what Kafka refused is tried again at the next tick.

        Stock Faust takes a refused commit for done. When the answer came after the seek of a new assignment, the
        partition stayed behind for the whole group until its next record: for ever, if that was the last one.
        """
        did_commit = await super()._commit_offsets(offsets, start_new_transaction)
        if not did_commit:
            for tp in offsets:
                self._committed_offset.pop(tp, None)
        return did_commit

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Judge nothing: acks mean nothing here, and stock Faust dies of a partition without an offset."""

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Note nothing: between the last offsets of two chunks there is always a gap."""


class ChunkTransport(driver.Transport):
    """The transport of a worker's app."""

    Consumer = ChunkConsumer

    def __init__(self, *args: Any, assignments: Assignments, **kwargs: Any) -> None:
        self.assignments = assignments
        super().__init__(*args, **kwargs)


class RawSchema(faust.Schema[Any, Any]):
    """Hands on what the transport made: the value is a Chunk already."""

    def loads_key(self, app: Any, message: Any, **kwargs: Any) -> None:
        """Return no key: a chunk has many."""

    def loads_value(self, app: Any, message: Any, **kwargs: Any) -> Chunk:
        """Return the chunk."""
        chunk: Chunk = message.value
        return chunk


def _message(tp: TP, records: list[Record], generation: int) -> ConsumerMessage:
    """Return the message that carries a chunk; Faust takes the value for bytes, and looks at the offset only."""
    last = records[-1]
    chunk: Any = Chunk(tp.topic, tp.partition, tuple(records))
    return ConsumerMessage(
        tp.topic,
        tp.partition,
        last.offset,
        last.timestamp / 1000,
        timestamp_type=0,
        headers=None,
        key=None,
        value=chunk,
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=0,
        tp=tp,
        generation_id=generation,
    )

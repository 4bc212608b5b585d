"""The partitions that a worker owns, and the rule that no record is skipped or taken twice."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tokentide.schemas import DataLossError, ServiceUnavailableError
from tokentide.schemas.chunk import Chunk
from tokentide.schemas.gauge import Gauge
from tokentide.streams.log import Log
from tokentide.streams.stage import Stage

__all__ = ["Lanes"]

_LOGGER = logging.getLogger(__name__)


@dataclass
class _Lane:
    """One partition of a stage's topic during one generation of the group."""

    generation: int
    opening: "asyncio.Task[None]"
    position: int | None = None
    under_way: deque[tuple[int, int]] = field(default_factory=deque)
    """Of each chunk that is not durable: the offset behind it, and the timestamp of its first record in ms."""


class Lanes:
    """The partitions of one stage: opens them, checks and trims each chunk, knows what may be committed.

    Whatever goes wrong is given to `fail`, which ends the process.
    """

    def __init__(
        self,
        stage: Stage,
        log: Log,
        recovery_seconds: float,
        fail: Callable[[BaseException], None],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.stage = stage
        self._log = log
        self._recovery_seconds = recovery_seconds
        self._fail = fail
        self._clock = clock
        self._wall = wall
        self._lanes: dict[int, _Lane] = {}
        self._flushing = asyncio.Lock()
        self.committable: dict[int, int] = {}
        self.has_work = asyncio.Event()
        self._taken = self._flushes = 0
        self._flush_seconds = 0.0
        self._flush_began: float | None = None
        self._longest_delay = 0.0

    def assign(self, partitions: set[int], generation: int) -> None:
        """Own these partitions only, and begin to open each of them: others may have worked on them meanwhile."""
        self.drop()
        for partition in partitions:
            opening = asyncio.create_task(self._open(partition, generation))
            self._lanes[partition] = _Lane(generation, opening)

    def drop(self) -> None:
        """Own nothing."""
        for partition, lane in self._lanes.items():
            lane.opening.cancel()
            self.stage.close(partition)
        self._lanes.clear()
        self.committable.clear()

    async def opened(self) -> None:
        """Return when every partition is recovered."""
        await asyncio.gather(*(lane.opening for lane in self._lanes.values()), return_exceptions=True)

    async def take(self, chunk: Chunk, generation: int) -> None:
        """Hand the chunk's new records to the stage; a chunk of an earlier generation is not ours any more."""
        lane = self._lanes.get(chunk.partition)
        if lane is None or lane.generation != generation:
            return
        await asyncio.wait([lane.opening])
        if self._lanes.get(chunk.partition) is not lane:
            return
        fresh = await self._fresh(chunk, lane.position)
        if fresh is None or self._lanes.get(chunk.partition) is not lane:
            return
        lane.position = fresh.last + 1
        lane.under_way.append((fresh.last + 1, fresh.records[0].timestamp))
        await self.stage.take(fresh)
        self._taken += len(fresh.records)
        self.has_work.set()

    async def flush(self, *, everything: bool = False) -> None:
        """Make durable what is due, or everything that was taken; one flush at a time."""
        async with self._flushing:
            owned = dict(self._lanes)
            began = self._flush_began = self._clock()
            try:
                offsets = await (self.stage.drain() if everything else self.stage.flush())
            finally:
                self._flush_began = None
            if self._note(offsets, owned):
                self._flushes += 1
                self._flush_seconds += self._clock() - began

    def gauges(self, end_of: Callable[[int], int | None]) -> Iterator[Gauge]:
        """Yield where each partition stands, and how flushes go since the last call.

        `end_of` returns the end of a partition's log, if known.
        """
        topic = {"topic": self.stage.topic}
        yield Gauge("tokentide_partitions", topic, len(self._lanes))
        recovering = sum(not lane.opening.done() for lane in self._lanes.values())
        yield Gauge("tokentide_partitions_recovering", topic, recovering)
        yield Gauge("tokentide_records_taken_total", topic, self._taken)
        yield Gauge("tokentide_flushes_total", topic, self._flushes)
        yield Gauge("tokentide_flush_seconds_total", topic, self._flush_seconds)
        yield Gauge("tokentide_delay_seconds", topic, self._longest_delay)
        self._longest_delay = 0.0
        running = 0.0 if self._flush_began is None else self._clock() - self._flush_began
        yield Gauge("tokentide_flush_running_seconds", topic, running)
        for partition, lane in self._lanes.items():
            if not lane.opening.done():
                continue
            labels = {**topic, "partition": str(partition)}
            position = lane.position or 0
            yield Gauge("tokentide_position", labels, position)
            if partition in self.committable:
                yield Gauge("tokentide_committable", labels, self.committable[partition])
            end = end_of(partition)
            if end is not None:
                yield Gauge("tokentide_end_offset", labels, end)
                yield Gauge("tokentide_consumer_lag", labels, max(0, end - position))

    def _note(self, offsets: Mapping[int, int], owned: Mapping[int, _Lane]) -> bool:
        """Remember what may be committed, of partitions still in the same hands; return whether anything is new."""
        is_new = False
        for partition, offset in offsets.items():
            lane = self._lanes.get(partition)
            if lane is not None and lane is owned.get(partition):
                is_new |= self.committable.get(partition) != offset
                self.committable[partition] = offset
                self._time(lane, offset)
        return is_new

    def _time(self, lane: _Lane, offset: int) -> None:
        """Note how old the records are that are durable up to this offset."""
        while lane.under_way and lane.under_way[0][0] <= offset:
            _, timestamp = lane.under_way.popleft()
            self._longest_delay = max(self._longest_delay, self._wall() - timestamp / 1000)

    async def _open(self, partition: int, generation: int) -> None:
        topic = self.stage.topic
        try:
            async with asyncio.timeout(self._recovery_seconds):
                position = await self.stage.open(partition)
        except TimeoutError:
            self._fail(
                ServiceUnavailableError(
                    f"{topic}[{partition}] was not recovered within {self._recovery_seconds:.0f} seconds; raise "
                    "TOKENTIDE_RECOVERY_SECONDS, or look at the broker"
                )
            )
        except Exception as error:
            self._fail(error)
        else:
            lane = self._lanes.get(partition)
            if lane is not None and lane.generation == generation:
                lane.position = position
                if position is not None:
                    # It was durable when the process died, though perhaps not committed.
                    self.committable[partition] = position

    async def _fresh(self, chunk: Chunk, position: int | None) -> Chunk | None:
        """Return the chunk without what was taken before; None when nothing is left.

        Raises DataLossError when records are missing before it that the log still has: something dropped them
        on the way to us, and the next start reads them again.
        """
        if position is None or chunk.first > position:
            await self._check_hole(chunk, position or 0)
            return chunk
        if chunk.first == position:
            return chunk
        records = tuple([record for record in chunk.records if record.offset >= position])
        return Chunk(chunk.topic, chunk.partition, records) if records else None

    async def _check_hole(self, chunk: Chunk, position: int) -> None:
        if chunk.first == position:
            return
        topic, partition = chunk.topic, chunk.partition
        first = await asyncio.to_thread(self._log.first_offset, topic, partition, position)
        if first != chunk.first:
            raise DataLossError(
                f"{topic}[{partition}]: records from offset {position} were not delivered to this worker, which "
                f"got {chunk.first}; it stops, and reads them when it is started again"
            )
        if position:
            _LOGGER.error(
                "%s[%d]: the log holds nothing from offset %d to %d any more; if retention removed it, it was "
                "never counted: run `tokentide audit`",
                topic,
                partition,
                position,
                chunk.first - 1,
            )

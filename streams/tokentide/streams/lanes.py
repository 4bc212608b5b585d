"""The partitions that a worker owns, and the rule that no record is skipped or taken twice."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tokentide.schemas import DataLossError, ServiceUnavailableError
from tokentide.schemas.chunk import Chunk
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


class Lanes:
    """The partitions of one stage: opens them, checks and trims each chunk, knows what may be committed.

    Whatever goes wrong is given to `fail`, which ends the process.
    """

    def __init__(
        self, stage: Stage, log: Log, recovery_seconds: float, fail: Callable[[BaseException], None]
    ) -> None:
        self.stage = stage
        self._log = log
        self._recovery_seconds = recovery_seconds
        self._fail = fail
        self._lanes: dict[int, _Lane] = {}
        self._flushing = asyncio.Lock()
        self.committable: dict[int, int] = {}
        self.has_work = asyncio.Event()

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
        await self.stage.take(fresh)
        self.has_work.set()

    async def flush(self, *, everything: bool = False) -> None:
        """Make durable what is due, or everything that was taken; one flush at a time."""
        async with self._flushing:
            owned = dict(self._lanes)
            offsets = await (self.stage.drain() if everything else self.stage.flush())
            self._note(offsets, owned)

    def _note(self, offsets: Mapping[int, int], owned: Mapping[int, _Lane]) -> None:
        """Remember what may be committed, of partitions that are still in the same hands."""
        for partition, offset in offsets.items():
            lane = self._lanes.get(partition)
            if lane is not None and lane is owned.get(partition):
                self.committable[partition] = offset

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

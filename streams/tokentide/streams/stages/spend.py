"""Stage `spend`: `usage.priced` to `usage.spend`, with a changelog of its own."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from tokentide.schemas import DataLossError, TopicNames
from tokentide.schemas.chunk import Chunk, Record
from tokentide.streams.coverage import coverage
from tokentide.streams.day import FENCE_KEY
from tokentide.streams.log import Log
from tokentide.streams.lost import Committed, check_not_lost
from tokentide.streams.outbox import Outbox
from tokentide.streams.partition import entity_partition
from tokentide.streams.rewriting import Rewriting
from tokentide.streams.rows import read_rows
from tokentide.streams.spend import SpendState
from tokentide.streams.stages.changelog import Changelog

__all__ = ["SpendStage"]

_LOGGER = logging.getLogger(__name__)
_GAP_SECONDS = 300.0


class SpendStage:
    """Adds up what every entity used; publishes absolute partial totals, then remembers them."""

    def __init__(
        self,
        topics: TopicNames,
        changelog: str,
        partitions: int,
        outbox: Outbox,
        log: Log,
        *,
        committed: Committed,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`partitions` is the number of partitions of `usage.spend`; `committed` asks the meter's group."""
        self.topic = topics.priced
        self._spend = topics.spend
        self._changelog = Changelog(changelog, FENCE_KEY, outbox, log)
        self._partitions = partitions
        self._outbox = outbox
        self._committed = committed
        self._clock = clock
        self._states: dict[int, SpendState] = {}
        self._rewriting: dict[int, Rewriting] = {}
        self._gaps: dict[int, float] = {}

    async def open(self, partition: int) -> int | None:
        """Read the totals back from the changelog. Raises DataLossError when it was lost."""
        state = await asyncio.to_thread(self._recover, partition)
        self._states[partition] = state
        self._rewriting[partition] = Rewriting(clock=self._clock)
        return state.priced

    def close(self, partition: int) -> None:
        """Forget the partition."""
        self._states.pop(partition, None)
        self._gaps.pop(partition, None)

    async def take(self, chunk: Chunk) -> None:
        """Count the rows of the chunk's records."""
        state = self._states[chunk.partition]
        for record in chunk.records:
            self._count(state, chunk.partition, record)
            await asyncio.sleep(0)

    async def flush(self) -> Mapping[int, int]:
        """Publish the totals that changed, then remember them; and remember some others once more."""
        records = [
            (partition, *record)
            for partition, state in self._states.items()
            for record in state.rewrites(self._rewriting[partition].due(len(state)))
        ]
        changes = {
            partition: changed
            for partition, state in self._states.items()
            if (changed := state.take_changes()) is not None
        }
        published = self._outbox.group()
        for partition, changed in changes.items():
            for key, value in changed.spend:
                published.send(
                    self._spend,
                    value,
                    key=f"{key}|{partition}".encode(),
                    partition=entity_partition(key, self._partitions),
                )
            records += [(partition, *record) for record in changed.changelog]
        await published.delivered()
        await self._changelog.remember(records)
        return {partition: changed.priced for partition, changed in changes.items()}

    drain = flush

    def _recover(self, partition: int) -> SpendState:
        state = SpendState(partition)
        for key, value in self._changelog.read(partition):
            state.load(key, value)
        state.loaded()
        if state.priced is None:
            check_not_lost(self._changelog.topic, self.topic, partition, self._committed)
        return state

    def _count(self, state: SpendState, partition: int, record: Record) -> None:
        """Count what the record has that is new: the first occurrence of an offset wins.

        The first record of all may begin anywhere, and so may one behind records that the log has lost.
        """
        place = f"{self.topic}[{partition}]"
        first, last = coverage(record, place)
        is_first = state.fence < 0 or state.priced is None or record.offset > state.priced
        if last <= state.fence or record.value is None:
            state.skip(record.offset + 1)
        elif first > state.fence + 1 and not is_first:
            self._pass_gap(state, partition, record, first)
        else:
            self._gaps.pop(partition, None)
            state.apply(read_rows(record.value).after(state.fence), last, record.offset + 1)

    def _pass_gap(self, state: SpendState, partition: int, record: Record, first: int) -> None:
        """Leave the record out: whoever sent it had lost the partition, and its offsets come again behind it.

        Raises DataLossError when they do not.
        """
        if partition not in self._gaps:
            self._gaps[partition] = self._clock()
            _LOGGER.warning(
                "%s[%d] goes on at source offset %d behind %d", self.topic, partition, first, state.fence
            )
        if self._clock() - self._gaps[partition] > _GAP_SECONDS:
            raise DataLossError(
                f"{self.topic}[{partition}] holds nothing of the source offsets {state.fence + 1} to {first - 1}: "
                "they were removed, or deleted, before they were counted; run `tokentide audit`"
            )
        state.skip(record.offset + 1)

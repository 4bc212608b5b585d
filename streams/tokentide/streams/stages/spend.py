"""Stage `spend`: `usage.priced` to `usage.spend`, with a changelog of its own."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping

from tokentide.schemas import DataLossError, TopicNames
from tokentide.schemas.chunk import Chunk, Record
from tokentide.schemas.gauge import Gauge
from tokentide.streams.coverage import coverage, event_clock
from tokentide.streams.day import FENCE_KEY
from tokentide.streams.log import Log
from tokentide.streams.lost import Committed, check_not_lost
from tokentide.streams.outbox import Delivery, Outbox
from tokentide.streams.partition import entity_partition
from tokentide.streams.rewriting import Rewriting
from tokentide.streams.rows import read_rows
from tokentide.streams.spend import SpendChanges, SpendState
from tokentide.streams.spend_record import watermark_record
from tokentide.streams.stages.changelog import Changelog
from tokentide.streams.watermarks import Watermarks

__all__ = ["SpendStage"]

_LOGGER = logging.getLogger(__name__)
_GAP_SECONDS = 300.0
_FOLDED_A_FLUSH = 2000


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
        watermark_delay_seconds: float = 60.0,
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
        self._watermarks = Watermarks(
            lambda partition, position: log.unread(topics.events, partition, position),
            partitions,
            watermark_delay_seconds,
            monotonic=clock,
        )

    async def open(self, partition: int) -> int | None:
        """Read the totals back from the changelog. Raises DataLossError when it was lost."""
        state = await asyncio.to_thread(self._recover, partition)
        self._states[partition] = state
        self._rewriting[partition] = Rewriting(clock=self._clock)
        self._watermarks.open(partition)
        return state.priced

    def close(self, partition: int) -> None:
        """Forget the partition."""
        self._states.pop(partition, None)
        self._gaps.pop(partition, None)
        self._watermarks.close(partition)

    async def take(self, chunk: Chunk) -> None:
        """Count the rows of the chunk's records."""
        state = self._states[chunk.partition]
        for record in chunk.records:
            self._count(state, chunk.partition, record)
            await asyncio.sleep(0)

    async def flush(self) -> Mapping[int, int]:
        """Publish the totals that changed, then remember them; some others once more, and close what is over."""
        self._watermarks.look_after({partition: state.fence for partition, state in self._states.items()})
        records: list[tuple[int, bytes, bytes]] = []
        deletions: list[tuple[int, bytes]] = []
        durable: dict[int, int] = {}
        published = self._outbox.group()
        # No pause in here: what is remembered together must be of one moment.
        for partition, state in self._states.items():
            rewritten = state.rewrites(self._rewriting[partition].due(len(state)))
            records += [(partition, *record) for record in rewritten]
            complete_up_to = self._watermarks.of(partition, state.clock.event_time)
            changed = state.take_changes(complete_up_to)
            if changed is not None:
                self._publish(published, partition, changed)
                records += [(partition, *record) for record in changed.changelog]
                durable[partition] = changed.priced
            if complete_up_to is not None and not state.is_catching_up:
                self._tell(published, partition, complete_up_to, state.clock.event_time)
            months, gone = state.fold(_FOLDED_A_FLUSH)
            records += [(partition, *record) for record in months]
            deletions += [(partition, key) for key in gone]
        await published.delivered()
        await self._changelog.remember(records, deletions)
        return durable

    drain = flush

    def gauges(self) -> Iterator[Gauge]:
        """Yield how many records of the changelog the state takes."""
        for partition, state in self._states.items():
            for kind, count in state.sizes.items():
                labels = {"stage": "spend", "partition": str(partition), "kind": kind}
                yield Gauge("tokentide_state_records", labels, count)

    def _publish(self, group: Delivery, partition: int, changed: SpendChanges) -> None:
        for key, adjustment, value in changed.spend:
            name = f"{key}|{partition}|{adjustment}" if adjustment else f"{key}|{partition}"
            group.send(
                self._spend, value, key=name.encode(), partition=entity_partition(key, self._partitions)
            )

    def _tell(self, group: Delivery, partition: int, complete_up_to: int, event_time: int) -> None:
        """Tell every partition of `usage.spend` how far this one is, behind the totals that rest on it."""
        if self._watermarks.is_due(partition, complete_up_to):
            key, value = watermark_record(partition, complete_up_to, event_time)
            for place in range(self._partitions):
                group.send(self._spend, value, key=key, partition=place)

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
            state.apply(
                read_rows(record.value).after(state.fence), last, record.offset + 1, event_clock(record)
            )

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

"""Stage `budgets`: `usage.spend` to `usage.alerts` and `usage.limits`, with a changelog of its own."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

from tokentide.schemas import Limits, SettingsError, TopicNames
from tokentide.schemas.chunk import Chunk, Record
from tokentide.schemas.gauge import Gauge
from tokentide.streams.budget_index import BudgetIndex
from tokentide.streams.budgets import BudgetState
from tokentide.streams.clock import Grace
from tokentide.streams.log import Log
from tokentide.streams.lost import Committed, check_not_lost
from tokentide.streams.outbox import Outbox
from tokentide.streams.partition import entity_key, entity_partition
from tokentide.streams.progress import POSITION_KEY
from tokentide.streams.rewriting import Rewriting
from tokentide.streams.stages.changelog import Changelog

__all__ = ["BudgetStage"]

_LIMITS_SECONDS = 60.0
_DEFAULT_GRACE = Grace()


def _now() -> datetime:
    return datetime.now(UTC)


class BudgetStage:
    """Adds the partial totals up, raises alerts, and says what is left.

    Alerts and limits are published, then remembered: a crash in between publishes the same alert, with the same
    id, once more.
    """

    def __init__(
        self,
        topics: TopicNames,
        changelog: str,
        partitions: int,
        outbox: Outbox,
        log: Log,
        *,
        committed: Committed,
        grace: Grace = _DEFAULT_GRACE,
        clock: Callable[[], datetime] = _now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`partitions` is the number that every topic has; `committed` asks the meter's group."""
        self.topic = topics.spend
        self._topics = topics
        self._changelog = Changelog(changelog, POSITION_KEY, outbox, log)
        self._partitions = partitions
        self._outbox = outbox
        self._log = log
        self._committed = committed
        self._grace = grace
        self._clock = clock
        self._monotonic = monotonic
        self._index = BudgetIndex()
        self._states: dict[int, BudgetState] = {}
        self._rewriting: dict[int, Rewriting] = {}
        self._limits_due = monotonic() + _LIMITS_SECONDS

    def apply_budget(self, record: Record) -> None:
        """Take in a record of `usage.budgets`."""
        for key in self._index.apply(record):
            self._review(key)

    async def open(self, partition: int) -> int | None:
        """Read the entities back from the changelog. Raises DataLossError when it was lost."""
        state, stale = await asyncio.to_thread(self._recover, partition)
        self._states[partition] = state
        self._rewriting[partition] = Rewriting(clock=self._monotonic)
        for key in {*stale, *self._index.entities()}:
            self._review(key)
        return state.position

    def close(self, partition: int) -> None:
        """Forget the partition."""
        self._states.pop(partition, None)

    async def take(self, chunk: Chunk) -> None:
        """Take in the partial totals of the chunk's records."""
        state = self._states[chunk.partition]
        for record in chunk.records:
            if record.value is not None:
                state.apply(record.value, record.offset)

    async def flush(self) -> Mapping[int, int]:
        """Publish alerts and limits, then remember them with the totals they rest on; and others once more."""
        if self._monotonic() >= self._limits_due:
            self._limits_due = self._monotonic() + _LIMITS_SECONDS
            for key in self._index.entities():
                self._review(key)
        records: list[tuple[int, bytes, bytes]] = [
            (partition, *record)
            for partition, state in self._states.items()
            for record in state.rewrites(self._rewriting[partition].due(len(state)))
        ]
        changes = {
            partition: changed
            for partition, state in self._states.items()
            if (changed := state.take_changes(self._clock())) is not None
        }
        deletions: list[tuple[int, bytes]] = []
        published = self._outbox.group()
        for partition, changed in changes.items():
            for alert in changed.alerts:
                value = alert.model_dump_json().encode()
                published.send(self._topics.alerts, value, key=alert.alert_id.encode(), partition=partition)
            for limits in changed.limits:
                value = limits.model_dump_json().encode()
                name = entity_key(limits.scope, limits.scope_id).encode()
                published.send(self._topics.limits, value, key=name, partition=partition)
            records += [(partition, *record) for record in changed.changelog]
            deletions += [(partition, key) for key in changed.deletions]
        await published.delivered()
        await self._changelog.remember(records, deletions)
        return {
            partition: changed.position
            for partition, changed in changes.items()
            if changed.position is not None
        }

    drain = flush

    def gauges(self) -> Iterator[Gauge]:
        """Yield what is remembered, and up to when the totals of all source partitions are complete."""
        for partition, state in self._states.items():
            labels = {"stage": "budgets", "partition": str(partition)}
            for what, count in state.sizes().items():
                yield Gauge(f"tokentide_state_{what}", labels, count)
            if state.complete_up_to is not None:
                place = {"partition": str(partition)}
                yield Gauge("tokentide_complete_up_to_seconds", place, state.complete_up_to / 1000)

    def _review(self, key: str) -> None:
        state = self._states.get(entity_partition(key, self._partitions))
        if state is not None:
            state.review(key)

    def _recover(self, partition: int) -> tuple[BudgetState, set[str]]:
        """Return the state, and the entities of which `usage.limits` still tells limits.

        Their budgets may have been deleted while nobody looked.
        """
        state = BudgetState(self._index, self._partitions, self._grace)
        for key, value in self._changelog.read(partition):
            self._check_place(key, partition)
            state.load(key, value)
        state.loaded()
        if state.position is None:
            check_not_lost(self._changelog.topic, self.topic, partition, self._committed)
        limited: dict[str, bool] = {}
        for record in self._log.read(self._topics.limits, partition, 0):
            if record.value is not None:
                limits = Limits.model_validate_json(record.value)
                limited[entity_key(limits.scope, limits.scope_id)] = bool(limits.limits)
        return state, {key for key, has_limits in limited.items() if has_limits}

    def _check_place(self, key: bytes, partition: int) -> None:
        """Raise SettingsError for an entity that belongs elsewhere: its partials would be split between two sums."""
        if key == POSITION_KEY:
            return
        place = entity_partition(key.decode(errors="replace"), self._partitions)
        if place != partition:
            raise SettingsError(
                f"{self._changelog.topic}[{partition}] holds {key.decode(errors='replace')}, which of "
                f"{self._partitions} partitions belongs to {place}: the topics had another number of partitions "
                "before, and that of a live pipeline cannot change; use new topic names (TOKENTIDE_TOPIC_...) and "
                "another TOKENTIDE_METER_ID"
            )
